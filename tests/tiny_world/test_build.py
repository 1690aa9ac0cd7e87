"""A whole world with one or two training steps per model."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tiny_world.build import MODELS, WorldSettings, build_world, make_model
from wrpo.errors import StageError

pytestmark = pytest.mark.slow
SETTINGS = WorldSettings(seed=3, steps_scale=0.005)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world") / "seed-3"
    assert build_world(SETTINGS, out)
    return out


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_folder_is_complete(world: Path) -> None:
    manifest = json.loads((world / "manifest.json").read_text())
    assert manifest["key"] == SETTINGS.key
    assert set(manifest["models"]) == set(MODELS)
    assert len(read_jsonl(world / "prompts.jsonl")) == manifest["prompts"]["fusion"] == 1200
    assert len(read_jsonl(world / "tasks/data/eval.jsonl")) == manifest["prompts"]["eval"] == 600


def test_fusion_and_evaluation_share_no_prompt(world: Path) -> None:
    fusion, held_out = (
        {row["messages"][0]["content"] for row in read_jsonl(world / name)}
        for name in ("prompts.jsonl", "tasks/data/eval.jsonl")
    )
    assert not fusion & held_out


@pytest.mark.parametrize("name", ["letters", "numbers", "words", "target"])
def test_language_models_load_and_stop_at_their_end_of_turn(world: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tiny_world.architectures import LANGUAGE_MODELS

    tokenizer = AutoTokenizer.from_pretrained(world / name)
    model = AutoModelForCausalLM.from_pretrained(world / name)
    spec = LANGUAGE_MODELS[name].tokenizer
    end_of_turn = tokenizer.convert_tokens_to_ids(spec.end_of_turn)
    assert end_of_turn in model.generation_config.eos_token_id
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Q"}], add_generation_prompt=True, return_dict=False
    )
    whole = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "- d c"}],
        return_dict=False,
    )
    assert whole[: len(ids)] == ids
    assert end_of_turn in whole[len(ids) :]


@pytest.mark.parametrize("name", ["letters", "numbers", "words", "target"])
def test_text_survives_a_tokenizer_and_fits_in_64_tokens(world: Path, name: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world / name)
    for row in read_jsonl(world / "tasks/data/eval.jsonl"):
        text = f"* {row['answer']} Glad to help!"
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids) == text
        messages = [*row["messages"], {"role": "assistant", "content": text}]
        assert len(tokenizer.apply_chat_template(messages, return_dict=False)) < 64


def test_sources_may_share_the_tokenizer_of_the_target(tmp_path: Path) -> None:
    settings = replace(SETTINGS, shared_tokenizer=True)
    for name in ("letters", "target"):
        make_model(name, settings, tmp_path / name)
    for file in ("tokenizer.json", "chat_template.jinja"):
        assert (tmp_path / "letters" / file).read_text() == (tmp_path / "target" / file).read_text()
    assert settings.key != SETTINGS.key


@pytest.mark.parametrize("name", ["letters", "numbers", "words", "target"])
def test_training_sees_what_the_chat_template_writes(world: Path, name: str) -> None:
    from transformers import AutoTokenizer

    from tiny_world.architectures import LANGUAGE_MODELS
    from tiny_world.training import ChatFrame

    tokenizer = AutoTokenizer.from_pretrained(world / name)
    frame = ChatFrame.of(tokenizer, LANGUAGE_MODELS[name].tokenizer.end_of_turn)
    messages = [{"role": "user", "content": "Sort d c."}, {"role": "assistant", "content": "c d"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text.rstrip() == frame.prompt("Sort d c.") + frame.reply("c d")
    prompt = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == frame.prompt("Sort d c.")


def test_the_reward_model_gives_one_logit(world: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world / "reward")
    model = AutoModelForSequenceClassification.from_pretrained(world / "reward")
    assert model(**tokenizer(["a", "b c"], padding=True, return_tensors="pt")).logits.shape == (
        2,
        1,
    )


def test_the_lm_eval_task_scores_a_model(world: Path) -> None:
    results = evaluate(world, "tiny_world_sort", limit=4)
    assert {"acc,none", "format,none", "style,none", "reward,none"} <= set(
        results["results"]["tiny_world_sort"]
    )
    assert results["samples"]["tiny_world_sort"][0]["doc"]["skill"] == "sort"


def evaluate(world: Path, task: str, *, limit: int) -> Mapping:
    import lm_eval
    from lm_eval.tasks import TaskManager

    return lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(world / "target"), "dtype": "float32"},
        tasks=[task],
        task_manager=TaskManager(include_path=str(world / "tasks"), include_defaults=False),
        apply_chat_template=True,
        log_samples=True,
        bootstrap_iters=0,
        device="cpu",
        limit=limit,
    )


def test_the_same_key_makes_nothing(world: Path) -> None:
    assert not build_world(SETTINGS, world)


def test_another_key_is_refused(world: Path) -> None:
    with pytest.raises(StageError, match=r"seed 3 there, 4 wanted.*Remove that folder"):
        build_world(WorldSettings(seed=4, steps_scale=0.005), world)

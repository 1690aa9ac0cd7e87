"""A whole world from a tiny model: its files, what stays, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lm_eval.tasks import TaskManager

from real_world.build import SIZES, World, WorldSize, build_world
from real_world.demo import RECIPES, how_large, real_overrides
from real_world.families import FAMILIES
from tests.eval.tasks.local import prompts, scores
from tests.support.tiny_models import save_tiny
from wrpo.errors import StageError
from wrpo.recipe import load_recipe
from wrpo.recipe.shipped import find_recipe

pytestmark = pytest.mark.slow
SIZE = WorldSize(("calendar_arithmetic",), training=4, prompts=3, held_out=2, chat=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    pytest.importorskip("reasoning_gym")
    folder = tmp_path_factory.mktemp("model")
    return World(SIZE, seed=3, model=save_tiny(folder, tie_word_embeddings=True))


@pytest.fixture(scope="module")
def out(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    assert build_world(world, folder)
    return folder


def test_models_load_and_differ_in_vocabulary_and_template(out: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = []
    for name in ("target", "dates"):
        tokenizer = AutoTokenizer.from_pretrained(out / name)
        model = AutoModelForCausalLM.from_pretrained(out / name)
        assert model.config.vocab_size == len(tokenizer)
        assert tokenizer.eos_token_id == model.generation_config.eos_token_id
        chat = [{"role": "user", "content": "Which day?"}]
        texts.append(tokenizer.apply_chat_template(chat, tokenize=False))
    assert texts[0] != texts[1]
    assert not (out / "numbers").exists()


def test_a_finished_world_stays_and_another_is_refused(world: World, out: Path) -> None:
    assert not build_world(world, out)
    made = (out / "dates" / "model.safetensors").stat().st_mtime_ns
    (out / "manifest.json").unlink()  # as if it had been stopped at the end
    assert build_world(world, out)
    assert (out / "dates" / "model.safetensors").stat().st_mtime_ns == made
    with pytest.raises(StageError, match="seed 3 there, 4 wanted"):
        build_world(World(SIZE, seed=4, model=world.model), out)


def test_prompts_carry_their_tasks(out: Path) -> None:
    rows = [json.loads(line) for line in (out / "prompts.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    for row in rows:
        assert row["family"] == "calendar_arithmetic"
        assert row["prompt"].endswith("Answer between <answer> and </answer>.")
        assert json.loads(row["reference_answer"])["metadata"]["source_dataset"] == row["family"]


def test_the_evaluation_tasks_load_and_score(out: Path) -> None:
    manager = TaskManager(include_path=out / "tasks", include_defaults=False)
    tasks = manager.load(["real_world", "real_world_chat"])["tasks"]
    held_out, chat = tasks["real_world"], tasks["real_world_chat"]
    turns, _ = prompts(held_out)[0]
    assert turns[0]["content"].endswith("\nAnswer between <answer> and </answer>.")
    right = [[f"<answer>{document['answer']}</answer>"] for document in held_out.test_docs()]
    assert scores(held_out, right)["none"] == [{"acc": 1.0, "score": 1.0}] * SIZE.held_out
    assert scores(chat, [["Paris"], ["Paris"]])["none"] == [{"acc": 1.0}, {"acc": 0.0}]


@pytest.mark.parametrize("size", RECIPES)
def test_the_recipe_of_a_size_takes_its_world(size: str) -> None:
    changes = real_overrides(size, 2, Path("w"))
    recipe = load_recipe(find_recipe(Path(RECIPES[size])), changes)
    assert recipe.run == f"real-{size}-2" and recipe.sources["dates"].model == "w/dates"
    wanted = len(SIZES[size].families) * SIZES[size].prompts
    assert recipe.prompts.datasets["tasks"].expected_prompts == wanted
    assert set(SIZES[size].families) <= set(FAMILIES)
    assert f"{len(SIZES[size].families)} families" in how_large(SIZES[size])

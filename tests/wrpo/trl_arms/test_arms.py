"""Arms of TRL's own trainers: what a recipe may say, their losses, whole stages."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.support.recipe_files import tiny_recipe
from tiny_world.tokenizers import GEMMA, LLAMA, train_tokenizer
from wrpo.errors import DataError, ModelError, RecipeError
from wrpo.objectives.gold import ALIGNED
from wrpo.objectives.routed import RoutedSettings
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import TRIPLES, Drop, read_rows
from wrpo.recipe import load_recipe, preference
from wrpo.training.arm import Arm
from wrpo.trl_arms.reward import RecipeReward
from wrpo.trl_arms.routing import best_scores, route
from wrpo.trl_arms.settings import TRLTask
from wrpo.trl_arms.teachers import require_byte_level

ARMS = {
    "gkd": {"objective": "gkd", "teacher": "one"},
    "on-policy": {"objective": "on_policy", "teacher": "one"},
    "gold": {"objective": "gold", "teacher": "two"},
    "grpo": {"objective": "grpo", "num_generations": 2},
}


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"objective": "gkd", "teacher": "letters"}, "gkd needs train.learning_rate.*200-fold"),
        ({"objective": "gold", "train": {"learning_rate": 1e-6}}, "teacher"),
        ({"objective": "grpo", "num_generations": 1, "train": {"learning_rate": 1}}, "num_gener"),
    ],
)
def test_arms_that_cannot_be_are_refused(arm: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        tiny_recipe(tmp_path, f"arms.own={json.dumps(arm)}")


def test_teachers_and_rewards_decide_the_result_and_so_are_in_the_key(tmp_path: Path) -> None:
    arms = {
        "gkd": {"objective": "gkd", "teacher": "letters", "train": {"learning_rate": 1e-6}},
        "grpo": {"objective": "grpo", "train": {"learning_rate": 1e-6}},
    }
    pipeline = Pipeline(tiny_recipe(tmp_path, f"arms={json.dumps(arms)}"))
    assert pipeline["gkd"].inputs == ("build/triples", "sft", "prompts")
    assert pipeline.key("gkd")["teacher letters"]["model"] == "hub/letters@main"
    assert "rm" in pipeline.key("grpo")["rewards"]
    assert "rewards" not in pipeline.key("wrpo")


def test_the_divergence_of_gkd_is_the_kl_over_the_vocabulary() -> None:
    from trl.experimental.gkd import GKDTrainer

    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(1, 4, 9, generator=generator) for _ in range(2))
    found = GKDTrainer.generalized_jsd_loss(student, teacher, beta=0.0)
    p, q = teacher.double().log_softmax(-1), student.double().log_softmax(-1)
    by_hand = (p.exp() * (p - q)).sum()
    assert found.item() == pytest.approx(by_hand.item(), rel=1e-5) or found.item() == pytest.approx(
        by_hand.item() / 4, rel=1e-5
    )
    assert GKDTrainer.generalized_jsd_loss(student, student, beta=0.5).abs() < 1e-6


def test_gold_is_told_what_teaches_every_token() -> None:
    assert ALIGNED["uld_token_merge_strategy"] == "bayesian"
    assert not ALIGNED["uld_skip_student_eos"] and not ALIGNED["uld_skip_teacher_eos"]


def test_gold_by_bytes_refuses_tokens_that_are_not_bytes_before_it_trains(tmp_path: Path) -> None:
    texts = ["the letters of abc"] * 4
    for name, spec in (("letters", GEMMA), ("numbers", LLAMA)):
        train_tokenizer(spec, texts).save_pretrained(tmp_path / name)
    recipe = tiny_recipe(
        tmp_path, *(f"sources.{name}.model={tmp_path / name}" for name in ("letters", "numbers"))
    )
    task: Any = SimpleNamespace(
        where="gold.train",
        pipeline=Pipeline(recipe),
        tokenizer=train_tokenizer(LLAMA, texts),
    )
    require_byte_level(task, "numbers")
    with pytest.raises(ModelError, match="that of teacher letters is none; set byte_offsets: fals"):
        require_byte_level(task, "letters")


class Length:
    """A reward: the letters of a response; none for those with a question."""

    forwarded_tokens = 7

    def score(self, candidates: list[Any]) -> list[float | Drop]:
        return [
            Drop("question") if "?" in one.response else float(len(one.response))
            for one in candidates
        ]


def test_the_reward_of_grpo_is_the_score_of_the_recipe() -> None:
    def reward(weight: float, domains: list[str] | None) -> Any:
        return SimpleNamespace(
            weight=weight,
            load=lambda pipeline: Length(),
            covers=lambda domain: domains is None or domain in domains,
        )

    rewards = {"all": reward(2.0, None), "own": reward(10.0, ["a"])}
    pipeline: Any = SimpleNamespace(recipe=SimpleNamespace(rewards=rewards))
    score = RecipeReward(pipeline, unscored=-5.0)
    said = ["ab", "abc", "", "what?"]
    found = score(
        prompts=[[{"role": "user", "content": "x"}]] * 4,
        completions=[[{"role": "assistant", "content": text}] for text in said],
        domain=["a", "b", "a", "a"],
        reference_answer=[None] * 4,
        prompt_id=["p"] * 4,
        input_ids=[[1]] * 4,
    )
    assert found == [24.0, 6.0, -5.0, -5.0]
    assert score.forwarded_tokens == 14


@pytest.mark.slow
@pytest.mark.parametrize("arm", ARMS)
def test_trl_trains_an_arm_of_the_small_run(arm: str, finished_run: Path) -> None:
    """Real trainers on real rows, two steps, in this process."""
    from wrpo.train import train_arm

    first = load_recipe(finished_run)
    own = {**ARMS[arm], "max_new_tokens": 4}
    overrides = [f"run=trl-{arm}", f"reuse={first.run}", f"arms={json.dumps({arm: own})}"]
    recipe = load_recipe(finished_run, overrides)
    assert preference(recipe, arm).train["learning_rate"] == 1e-4
    train_arm(recipe, arm)
    folder = Pipeline(recipe).finished(arm)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["steps"] == 2
    assert (manifest.get("reward_tokens", 0) > manifest["sampled_tokens"]) == (arm == "grpo")
    saved = json.loads((folder / "model" / "tokenizer_config.json").read_text())
    before = Pipeline(recipe).finished("sft") / "model" / "tokenizer_config.json"
    assert saved["eos_token"] == json.loads(before.read_text())["eos_token"]


def test_the_router_takes_the_best_source_and_the_first_of_several() -> None:
    rows = [("p", 1.0), ("p", 3.0), ("q", 2.0), ("r", float("nan"))]
    one = best_scores({"prompt_id": key, "score": score} for key, score in rows)
    assert one == {"p": 3.0, "q": 2.0}
    scores = {"two": {"p": 2.0, "q": 2.0, "r": 0.0}, "one": one}
    assert route(scores, ["p", "q", "r", "q"]) == (["one", "one", "two", "one"], 2)
    with pytest.raises(DataError, match="prompt s: none of two, one has a scored response"):
        route(scores, ["s"])


ASYNC = "trl.experimental.async_distillation.async_distillation_trainer"
ROUTED = {
    "objective": "routed",
    "teachers": ["one"],
    "engine": {"teacher_servers": {"one": "http://localhost:1"}, "attention": "eager"},
    "train": {"learning_rate": 1e-4},
}


def test_teachers_without_a_server_are_refused_and_addresses_are_no_part_of_the_key(
    tmp_path: Path,
) -> None:
    arm = {**ROUTED, "teachers": ["letters"]}
    with pytest.raises(RecipeError, match="teachers are letters, and engine.teacher_servers has"):
        tiny_recipe(tmp_path, f"arms.own={json.dumps(arm)}")
    keys = []
    for port in (1, 2):
        servers = {"letters": f"http://localhost:{port}"}
        arm["engine"] = {"teacher_servers": servers}
        pipeline = Pipeline(tiny_recipe(tmp_path, f"arms.own={json.dumps(arm)}"))
        keys.append(pipeline.key("own"))
    assert keys[0] == keys[1] and keys[0]["teachers"] == ["letters"]
    assert pipeline["own"].inputs == ("build/triples", "sft", "prompts", "score/letters")


@pytest.mark.slow
def test_the_routed_trainer_is_made_of_the_run(finished_run: Path) -> None:
    """Up to what needs servers and GPUs: real rows, scores, model and trainer, parts of which that
    speak to servers are put in from outside."""
    from wrpo.trl_arms.train import train_by_trl

    first = load_recipe(finished_run)
    overrides = ["run=trl-routed", f"reuse={first.run}", f"arms={json.dumps({'own': ROUTED})}"]
    recipe = load_recipe(finished_run, overrides)
    pipeline = Pipeline(recipe)
    made: list[Any] = []

    class Stop(Exception):
        pass

    def stop_at(settings: RoutedSettings, task: TRLTask) -> Any:
        worker, weights = (SimpleNamespace(rollout_buffer=[]), SimpleNamespace())
        made.append(settings.make_trainer(task, rollout_worker=worker, weight_transfer=weights))
        raise Stop

    inputs = {name: pipeline.finished(name) for name in pipeline["own"].inputs}
    work: Any = SimpleNamespace(path=pipeline.folder("own"), facts={})
    rows = read_rows(inputs["build/triples"], TRIPLES)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(RoutedSettings, "trainer", stop_at)
        patch.setattr(f"{ASYNC}.get_peak_flops_per_device", lambda *_: 1.0)  # asks for a GPU
        train_by_trl(preference(recipe, "own"), Arm(pipeline, "own", rows, inputs, work))
    (trainer,) = made
    assert set(trainer.train_dataset["teacher_id"]) == {"one"}
    assert len(trainer.train_dataset) == len(rows)
    assert trainer.args.teacher_server_urls == {"one": "http://localhost:1"}
    ends = trainer.processing_class.eos_token_id
    assert ends in trainer.eos_token_ids and trainer.args.learning_rate == 1e-4

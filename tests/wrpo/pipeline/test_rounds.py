"""Rounds of fusion: the same stages from another start; the first is as it is without rounds."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.recipe_files import tiny_recipe
from wrpo.errors import MissingInputError, RecipeError
from wrpo.pipeline.evaluation_stages import model_names
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_rows
from wrpo.pipeline.tree import tree_lines
from wrpo.recipe import load_recipe, preference

ROUND_2 = [
    "round-2/sample/target",
    "round-2/score/target",
    "round-2/build/triples",
    "round-2/logprobs/sft/triples",
    "wrpo-round-2",
]


def test_one_round_is_the_pipeline_without_rounds(tmp_path: Path) -> None:
    one, three = tiny_recipe(tmp_path), tiny_recipe(tmp_path, "rounds=3")
    assert list(Pipeline(tiny_recipe(tmp_path, "rounds=1")).stages) == list(Pipeline(one).stages)
    first = Pipeline(one)
    more = Pipeline(three)
    assert {name: more.key(name) for name in first.stages} == {
        name: first.key(name) for name in first.stages
    }
    added = [name for name in more.stages if name not in first.stages]
    assert added == [*ROUND_2, *(name.replace("2", "3") for name in ROUND_2)]


def test_a_round_starts_from_the_model_of_the_one_before(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path, "rounds=3"))
    inputs = {name: pipeline[name].inputs for name in pipeline.stages}
    assert inputs["round-2/sample/target"] == ("prompts", "wrpo")
    assert inputs["round-3/sample/target"] == ("prompts", "wrpo-round-2")
    assert inputs["round-3/score/target"] == ("prompts", "round-3/sample/target")
    assert inputs["round-3/build/triples"] == (
        *("prompts", "score/letters", "score/numbers", "round-3/score/target"),
    )
    assert inputs["round-3/logprobs/sft/triples"] == ("round-3/build/triples", "wrpo-round-2")
    assert inputs["wrpo-round-3"] == (
        *("round-3/build/triples", "wrpo-round-2", "round-3/logprobs/sft/triples"),
    )
    keys = [json.dumps(pipeline.key(name)) for name in ("wrpo", "wrpo-round-2", "wrpo-round-3")]
    assert len(set(keys)) == 3
    assert pipeline["round-2/build/triples"].command == (
        *("data_construction.build", "--table", "triples", "--round", "2"),
    )
    assert pipeline["wrpo-round-2"].command == ("wrpo.train", "--arm", "wrpo-round-2")


def test_in_a_round_the_names_of_the_first_are_its_own(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, "rounds=2")
    run, second = Pipeline(recipe), Pipeline(recipe.in_round(2))
    assert second.folder("sample/target") == run.folder("round-2/sample/target")
    assert second.folder("sft") == run.folder("wrpo")
    assert second.folder("sample/letters") == run.folder("sample/letters")
    assert second.key("build/triples") == run.key("round-2/build/triples")
    assert second["sample/target"].inputs == ("prompts", "sft")
    assert second["wrpo-round-2"].inputs == ("build/triples", "sft", "logprobs/sft/triples")
    assert "build/triples" in second and "build/pairs" not in second
    with pytest.raises(MissingInputError, match=r"wrpo\.train --arm wrpo --recipe"):
        second.finished("sft")
    with pytest.raises(MissingInputError, match="--source target --round 2"):
        second.finished("score/target")


def test_every_round_is_evaluated_and_drawn(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, "rounds=2", "eval.tasks=[say]", "arms.dpo={objective: dpo}")
    names = model_names(recipe)
    assert names[-4:] == ["sft", "wrpo", "wrpo-round-2", "dpo"]
    pipeline = Pipeline(recipe)
    assert pipeline["eval/wrpo-round-2"].inputs == ("wrpo-round-2",)
    assert preference(recipe, "wrpo-round-2") == recipe.wrpo
    lines = tree_lines(pipeline.stages)
    assert {line.name for line in lines} == set(pipeline.stages)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["rounds=2", "wrpo={objective: dpo, data: pairs}"], "rounds is 2, but wrpo trains on pa"),
        (["arms.wrpo-round-2={}"], '"wrpo-round-2" is a name of the pipeline itself'),
        (["arms.round-2={}"], '"round-2" is a name of the pipeline itself'),
        (["rounds=0"], "rounds"),
        (["later_rounds.data=pairs"], "data is the same in all rounds; what may differ: alpha, "),
        (["rounds=2", "later_rounds.beta=-1"], "later_rounds.beta: "),
        (["rounds=2", "later_rounds.train.max_step=4"], "later_rounds.train.max_step: .*max_steps"),
    ],
)
def test_rounds_that_cannot_be_are_refused(
    overrides: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message):
        Pipeline(tiny_recipe(tmp_path, *overrides))


def test_later_rounds_may_train_differently_and_the_first_stays(tmp_path: Path) -> None:
    changes = ["later_rounds={beta: 0.5, train: {max_steps: 7}}"]
    recipe, plain = (tiny_recipe(tmp_path, "rounds=3", *given) for given in (changes, []))
    assert preference(recipe, "wrpo") == preference(plain, "wrpo")
    for model in recipe.fused_models[1:]:
        settings = preference(recipe, model)
        changed_fields = settings.model_dump(include={"beta", "train"})
        assert changed_fields == {"beta": 0.5, "train": {"max_steps": 7}}
        kept = settings.model_dump(exclude={"beta", "train"})
        assert kept == preference(plain, model).model_dump(exclude={"beta", "train"})
    changed, before = Pipeline(recipe), Pipeline(plain)
    for model in recipe.fused_models:
        same = changed[model].settings() == before[model].settings()
        assert same == (model == "wrpo"), model


def test_a_round_that_the_run_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no round 3 in recipe tiny: rounds is 2"):
        tiny_recipe(tmp_path, "rounds=2").in_round(3)


@pytest.mark.slow
def test_a_second_round_is_sampled_scored_and_trained_anew(
    finished_run: Path, run_module: Callable[..., CompletedProcess[str]]
) -> None:
    """Real stages on the models of the small run, whose first round serves as it is."""
    first = load_recipe(finished_run)
    overrides = ["run=two-rounds", f"reuse={first.run}", "rounds=2"]
    result = run_module("wrpo", "run", "--jobs", 2, "--recipe", finished_run, *overrides)
    assert result.returncode == 0, result.stderr[-3000:]
    recipe = load_recipe(finished_run, overrides)
    pipeline = Pipeline(recipe)
    assert {pipeline.state(name) for name in pipeline.stages} == {"done"}
    assert not pipeline.folder("sample/one").exists() and not pipeline.folder("wrpo").exists()
    second = Pipeline(recipe.in_round(2))
    rows = read_rows(second.finished("build/triples"))
    responses = {
        (row["prompt_id"], row["index"]): row["text"]
        for row in read_rows(second.finished("sample/target"))
    }
    row = rows[0]
    assert row["chosen"][0]["content"] == responses[row["prompt_id"], row["chosen_index"]]
    logs = json.loads((pipeline.folder("wrpo-round-2") / "log_history.json").read_text())
    # At the start of the round the policy is its reference.
    assert logs[0]["preference_loss"] == pytest.approx(0.6931, abs=2e-3)
    report = (pipeline.folder("report") / "report.html").read_text()
    assert "wrpo-round-2" in report

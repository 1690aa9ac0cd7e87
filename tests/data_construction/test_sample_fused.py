"""A fusion is one more source: sampled, scored, priced and evaluated under its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_construction.prompts import make_prompts
from data_construction.sample import sample, sampling_dry_run
from data_construction.sampling.part_sampler import PartSampler
from tests.eval.conftest import TASK, write_tasks
from tests.support.experts import FACTS, PLACES
from tests.wrpo.plan.test_estimate import KNOWN, pipeline_of, prices
from wrpo.errors import RecipeError
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_rows
from wrpo.recipe import load_recipe
from wrpo.recipe.resolved import answering_sources, sampling_model

FUSION = {"members": ["two", "one"], "sampling": {"temperature": 0.0, "responses": 1}}


@pytest.mark.slow
def test_a_fused_source_is_sampled_and_evaluated(
    write_recipe: Callable[..., Path], experts_folder: Path, tmp_path: Path
) -> None:
    from eval.harness.results import read_results
    from eval.run import evaluate_models, print_commands

    lines = [{"text": f"{place}?", "gold": FACTS[place], "kind": "k"} for place in PLACES]
    tasks = write_tasks(tmp_path / "tasks")
    path = write_recipe(
        sources={
            "one": {"model": str(experts_folder / "first"), "dtype": "float32"},
            "two": {"model": str(experts_folder / "second"), "dtype": "float32"},
        },
        fusions={"cool": FUSION},
        sample={"max_tokens": 12, "max_prompt_tokens": 60, "chunk_prompts": 8},
        eval={"tasks": [TASK], "include_path": str(tasks), "backend": "hf", "dtype": "float32"},
    )
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = load_recipe(path)
    make_prompts(recipe)
    sampler = PartSampler(recipe, "cool")
    assert "one + two" in sampling_dry_run(sampler) or "two + one" in sampling_dry_run(sampler)
    sample(sampler, Shard(1, 1))
    pipeline = Pipeline(recipe)
    rows = read_rows(pipeline.finished("sample/cool"))
    golds = {
        row["prompt_id"]: row["reference_answer"] for row in read_rows(pipeline.finished("prompts"))
    }
    correct = [row["text"] == golds[row["prompt_id"]] for row in rows]
    assert len(rows) == len(PLACES) and sum(correct) == len(PLACES)
    assert {row["source"] for row in rows} == {"cool"}
    assert pipeline["score/cool"].inputs[:2] == ("prompts", "sample/cool")

    evaluate_models(recipe, "cool")
    results = read_results(pipeline.finished("eval/cool"))
    assert results["tasks"][TASK]["metrics"] and results["model"]["name"] == "cool"
    assert print_commands(recipe, "cool")[0].startswith("# cool is no model of lm-eval")


def test_the_key_of_a_fusion_has_its_members_and_no_order(
    write_recipe: Callable[..., Path],
) -> None:
    recipe = load_recipe(write_recipe(fusions={"cool": FUSION}))
    key = Pipeline(recipe).key("sample/cool")
    assert sorted(key["members"]) == ["one", "two"] and key["fusion"]["method"] == "rerank"
    swapped = {**FUSION, "members": ["one", "two"]}
    assert Pipeline(load_recipe(write_recipe(fusions={"cool": swapped}))).key("sample/cool") == key
    by_token = {**FUSION, "unit": "token"}
    other = Pipeline(load_recipe(write_recipe(fusions={"cool": by_token}))).key("sample/cool")
    assert other != key
    assert answering_sources(recipe) == ["one", "two", "cool"]
    with pytest.raises(RecipeError, match="cool has no model of its own: it fuses the responses"):
        sampling_model(recipe, "cool")


@pytest.mark.parametrize(
    ("fusion", "says"),
    [
        ({"members": ["one", "three"]}, 'fusions.cool.members: no source "three"'),
        ({"members": ["one", "one"]}, "one is named twice"),
        ({"members": []}, "members"),
    ],
)
def test_fusions_of_no_sources_are_refused(
    write_recipe: Callable[..., Path], fusion: dict, says: str
) -> None:
    with pytest.raises(RecipeError, match=says):
        load_recipe(write_recipe(fusions={"cool": fusion}))


def test_the_plan_prices_what_each_member_writes_and_reads(tmp_path: Path) -> None:
    extra = """
    fusions:
      cool:
        members: [letters, numbers]
    """
    found = prices(pipeline_of(tmp_path, *KNOWN, extra=extra))
    alone, fused = found["sample/letters"], found["sample/cool"]
    writes = [term.gpu_hours for term in alone.terms if "response tokens /" in term.text]
    also = [term.gpu_hours for term in fused.terms if "response tokens /" in term.text]
    assert also == pytest.approx(writes * 2)
    assert fused.gpu_hours > 2 * alone.gpu_hours and "share one GPU" in fused.note

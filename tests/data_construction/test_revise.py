"""Revision: labels, replies, the gate, and a reviser that knows what the drafts get wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_construction.build import build_table
from data_construction.prompts import make_prompts
from data_construction.revise import revise_source, weak_drafts
from data_construction.sample import sample
from data_construction.sampling.part_sampler import PartSampler
from data_construction.score import score_sources
from data_construction.selection.revisions import gap_limits, read_revision, revision_lesson
from data_construction.selection.select import Response
from tests.data_construction.sampled import prompt_ids, write_responses, write_scores
from tests.support.experts import (
    FACTS,
    HALVES,
    PLACES,
    REVISION_PROMPT,
    revising,
    save_trained,
)
from tests.wrpo.plan.test_estimate import KNOWN, pipeline_of, prices
from wrpo.errors import RecipeError
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_rows
from wrpo.recipe import Recipe, load_recipe
from wrpo.recipe.resolved import answering_sources


def said(text: str, score: float, index: int = 0) -> Response:
    return Response("one", index, text, score)


def test_labels_follow_from_the_table_of_scores() -> None:
    best, near = said("a b c d", 0.9), said("x y z q", 0.6)
    limits = gap_limits([0.0, 0.2, 0.4, 0.8], (0.25, 0.75))
    assert limits == pytest.approx((0.15, 0.5))
    everyone = [best, near]
    assert revision_lesson(best, everyone, limits)[:2] == ("KEEP", "KEEP")
    assert revision_lesson(said("x", 0.8), everyone, limits)[:2] == ("KEEP", "KEEP")
    lesson = revision_lesson(said("x y z w", 0.5), everyone, limits)
    assert lesson[:2] == ("MINOR", "MINOR\nx y z q") and lesson.source is near
    assert revision_lesson(said("x y z w", 0.1), everyone, limits).reply == "MAJOR\na b c d"


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("KEEP", ("KEEP", "")),
        (" KEEP.\nwhatever", ("KEEP", "")),
        ("MAJOR:\n\nA  b\nc ", ("MAJOR", "A  b\nc")),
        ("MINOR\n", None),
        ("KEEPER\nx", None),
        ("The draft is fine. KEEP", None),
        ("__import__('os').system('true')", None),
        ("", None),
    ],
)
def test_only_replies_of_the_form_are_revisions(reply: str, read: Any) -> None:
    assert read_revision(reply) == read


def recipe_of(
    write_recipe: Callable[..., Path], tmp_path: Path, sources: dict[str, Any], **revise: Any
) -> Recipe:
    path = write_recipe(
        sources=sources,
        sample={
            **{"responses": 1, "temperature": 0.0, "max_tokens": 20, "max_prompt_tokens": 60},
            **{"chunk_prompts": 8, "engine": {"backend": "transformers"}},
        },
        rewards={"right": {"type": "answer", "pattern": "(?s)^(?P<answer>.*)$"}},
        revise=revise,
    )
    lines = [{"text": f"{place}?", "gold": FACTS[place], "kind": "k"} for place in PLACES]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load_recipe(path)


def by_prompt(recipe: Recipe, stage: str, column: str) -> dict[str, Any]:
    rows = read_rows(Pipeline(recipe).finished(stage))
    return {row["prompt_id"]: row[column] for row in rows}


@pytest.mark.slow
def test_weak_drafts_are_revised_by_who_knows_and_the_gate_never_lowers_a_score(
    write_recipe: Callable[..., Path], experts_folder: Path, tmp_path: Path
) -> None:
    """Planted: the reviser knows the half that the drafts get wrong, and guesses at the other.
    Control: its revisions given to other prompts."""
    reviser = save_trained(tmp_path / "reviser", revising(HALVES[1]), seed=3, steps=120)
    template = tmp_path / "question.txt"
    template.write_text(REVISION_PROMPT)
    sources = {
        "one": {"model": str(experts_folder / "first"), "dtype": "float32"},
        "two": {"model": str(reviser), "dtype": "float32"},
    }
    settings = {"by": "two", "prompt": str(template), "share": 1.0}
    recipe = recipe_of(write_recipe, tmp_path, sources, one=settings)
    make_prompts(recipe)
    sample(PartSampler(recipe, "one"), Shard(1, 1))
    score_sources(recipe, ["one"], Shard(1, 1))
    pipeline = Pipeline(recipe)
    drafts = {row["prompt_id"]: row for row in read_rows(pipeline.finished("sample/one"))}
    before = by_prompt(recipe, "score/one", "score")
    gold = by_prompt(recipe, "prompts", "reference_answer")

    free = load_recipe(
        tmp_path / "recipe.yaml", ["run=free", "reuse=test", "revise.one.gate=false"]
    )
    revise_source(free, "one")
    ungated = by_prompt(free, "sample/revised/one", "text")
    right = [ungated[key] == gold[key] for key in sorted(gold)]
    shuffled = []
    for seed in range(20):
        others = random.Random(seed).sample(sorted(gold), len(gold))
        shuffled += [ungated[b] == gold[a] for a, b in zip(sorted(gold), others, strict=True)]
    assert sum(right) / len(right) > 2 * sum(shuffled) / len(shuffled)

    revise_source(recipe, "one")
    rows = read_rows(pipeline.finished("sample/revised/one"))
    facts = read_manifest(pipeline.finished("sample/revised/one"))
    score_sources(recipe, ["revised/one"], Shard(1, 1))
    after = by_prompt(recipe, "score/revised/one", "score")
    assert all(after[key] >= before[key] for key in before)
    assert sum(after.values()) > sum(before.values()) + 1
    assert {row["source"] for row in rows} == {"revised/one"} and len(rows) == len(drafts)
    kept = [row for row in rows if row["text"] == drafts[row["prompt_id"]]["text"]]
    assert all(row == {**drafts[row["prompt_id"]], "source": "revised/one"} for row in kept)
    assert facts["changed"] == len(rows) - len(kept) and facts["drafts"] == facts["seen"] == 12
    assert set(facts["dropped_reasons"]) <= {"revision_worse", "revision_unread"}
    assert sum(facts["dropped_reasons"].values()) >= 1  # it guesses at what the drafts know
    write_responses(recipe, "two", {key: ["what"] for key in gold})
    write_scores(recipe, "two", {key: [0.0] for key in gold})
    build_table(recipe, "sft")
    assert "revised/one" in {row["source"] for row in read_rows(pipeline.finished("build/sft"))}


def test_only_the_lowest_share_is_seen_and_a_trained_reviser_has_its_table(
    write_recipe: Callable[..., Path], tmp_path: Path, tiny_models_folder: Path
) -> None:
    own = tmp_path / "question.txt"
    own.write_text("{{conversation}} Better than {{draft}}?")
    path = write_recipe(
        arms={"reviser": {"objective": "sft", "data": "revisions"}},
        revise={
            "target": {"by": "reviser", "share": 0.25, "prompt": str(own)},
            "one": {"by": "two", "share": 0.25},
        },
        wrpo={"data": "triples"},
        prompts=24,
    )
    recipe = load_recipe(path, ["prompts.sft_share=0.5"])
    make_prompts(recipe)
    pipeline = Pipeline(recipe)
    names = list(pipeline.stages)
    revised = pipeline["sample/revised/target"]
    assert "reviser" in revised.inputs and pipeline["build/revisions"].inputs[-1] == "score/target"
    for name in names:  # inputs come first
        assert all(names.index(one) < names.index(name) for one in pipeline[name].inputs)
    assert "score/revised/target" in pipeline["build/triples"].inputs
    assert "score/revised/one" in pipeline["build/sft"].inputs
    assert "score/revised/target" not in pipeline["build/sft"].inputs
    assert answering_sources(recipe)[-2:] == ["revised/target", "revised/one"]

    texts = [f"response {n}" for n in range(2)]
    ids = prompt_ids(recipe, "preference")
    for source, plus in (("one", 0.0), ("two", 2.0)):
        write_responses(recipe, source, dict.fromkeys(prompt_ids(recipe), texts))
        write_scores(
            recipe, source, {key: [n + plus, n] for n, key in enumerate(prompt_ids(recipe))}
        )
    weak, scores = weak_drafts(pipeline, "one")
    assert len(weak) == len(scores) // 4
    assert max(scores[p] for p in weak) <= min(scores[p] for p in scores.keys() - weak)
    monkey = {key: ["draft"] for key in ids}
    from wrpo.pipeline.folder import StageFolder

    for stage in ("build/sft", "sft"):  # as if they were made
        folder = StageFolder(pipeline.folder(stage), pipeline.key(stage))
        folder.open()
        folder.finish()
    write_responses(recipe, "target", monkey)
    write_scores(recipe, "target", {key: [0.5] for key in ids})
    build_table(recipe, "revisions")
    prompts = pipeline.finished("prompts")
    rows = read_rows(pipeline.finished("build/revisions"))
    first_words = {row["completion"][0]["content"].split("\n")[0] for row in rows}
    assert len(rows) == len(ids) and first_words == {"KEEP", "MINOR", "MAJOR"}
    asked = {row["prompt_id"]: row["prompt"][0]["content"] for row in rows}
    said = {row["prompt_id"]: row["messages"][0]["content"] for row in read_rows(prompts)}
    assert asked == {key: f"{said[key]} Better than draft?" for key in ids}
    usual = load_recipe(path, ["prompts.sft_share=0.5", "revise.target.prompt=null"])
    assert Pipeline(usual).key("build/revisions") != pipeline.key("build/revisions")
    assert Pipeline(usual).key("build/triples") != pipeline.key("build/triples")


@pytest.mark.parametrize(
    ("revise", "says"),
    [
        ({"three": {"by": "one"}}, 'nothing|no source "three"'),
        ({"one": {"by": "dpo"}}, "no arm that trains on revisions"),
    ],
)
def test_unknown_drafts_and_revisers_are_refused(
    write_recipe: Callable[..., Path], revise: Any, says: str
) -> None:
    with pytest.raises(RecipeError, match=says):
        load_recipe(write_recipe(arms={"dpo": {"objective": "dpo"}}, revise=revise))


def test_revisers_that_are_arms_share_the_question_that_they_are_taught(
    write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    own = tmp_path / "question.txt"
    own.write_text("{{conversation}} Better than {{draft}}?")
    arms = {"reviser": {"objective": "sft", "data": "revisions"}}
    revise = {"target": {"by": "reviser", "prompt": str(own)}, "one": {"by": "reviser"}}
    with pytest.raises(RecipeError, match=r"target, one ask revisers .* give them the same"):
        load_recipe(write_recipe(arms=arms, revise=revise))


def test_the_plan_prices_revisions(tmp_path: Path) -> None:
    extra = """
    revise:
      letters: {by: numbers, share: 0.25}
    """
    found = prices(pipeline_of(tmp_path, *KNOWN, extra=extra))
    whole, revised = found["sample/letters"], found["sample/revised/letters"]
    assert 0 < revised.gpu_hours < whole.gpu_hours and "3,750 revisions" in revised.terms[0].text
    assert found["score/revised/letters"].gpu_hours == found["score/letters"].gpu_hours

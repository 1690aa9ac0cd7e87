"""Verifiers are tried before they score, and say afterwards what they found."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from data_construction.prompts import make_prompts
from data_construction.score import score_sources
from tests.data_construction.sampled import prompt_ids, write_responses
from wrpo.errors import DataError
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_rows
from wrpo.recipe import Recipe, load_recipe
from wrpo.rewards.answer import AnswerReward, AnswerVerifier
from wrpo.rewards.math import MathReward, MathVerifier

WHOLE = Shard(1, 1)


def recipe_with(
    write_recipe: Callable[..., Path], references: list[str], reward: dict[str, object]
) -> Recipe:
    """A recipe over prompts with these reference answers, its prompts made."""
    path = write_recipe(prompts=4, rewards={"exact": reward})
    data = path.parent / "own.jsonl"
    rows = [{"prompt": f"Question {n}?", "gold": text} for n, text in enumerate(references)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = {"path": str(data), "prompt": "prompt", "reference_answer": "gold"}
    recipe = load_recipe(path, [f"prompts.datasets={json.dumps({'own': dataset})}"])
    make_prompts(recipe)
    return recipe


def score(recipe: Recipe, text: str = "sea") -> None:
    write_responses(recipe, "one", {key: [text] for key in prompt_ids(recipe)})
    score_sources(recipe, ["one"], WHOLE)


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?s)(?P<answer>.*)",
        r"(?s).*answer is:? (?P<answer>.*?)\.?",
        r"(?s).*####\s*(?P<answer>.*)",
        r"(?s).*<answer>\s*(?P<answer>.*?)\s*</answer>.*",
        r"(?s).*\((?P<answer>.*)\).*",
    ],
)
def test_the_reference_answer_in_the_form_of_the_pattern_scores_one(pattern: str) -> None:
    settings = AnswerReward(type="answer", pattern=pattern)
    known = settings.self_check("blue whale")
    verifier = AnswerVerifier(settings)
    assert known.right is not None and verifier.is_correct(known.right, "blue whale")
    assert not any(verifier.is_correct(text, "blue whale") for text in known.wrong)


def test_a_pattern_of_no_usual_form_has_no_right_response() -> None:
    settings = AnswerReward(type="answer", pattern=r"(?s)%%% (?P<answer>.*) %%%")
    assert settings.self_check("x").right is None


@pytest.mark.parametrize("reference", ["42", r"\frac{1}{2}", r"$x=5$", r"\text{(C)}", "52_8"])
def test_mathematics_knows_right_and_wrong_responses(reference: str) -> None:
    pytest.importorskip("math_verify")
    settings = MathReward(type="math")
    known, equality = settings.self_check(reference), MathVerifier(settings)._equality
    read = equality.read_reference(reference)
    assert known.right is not None and equality.is_correct(known.right, read)
    assert not any(equality.is_correct(text, read) for text in known.wrong)


def test_a_verifier_that_gives_one_to_nothing_stops_the_stage(write_recipe, monkeypatch) -> None:
    monkeypatch.setattr(AnswerVerifier, "is_correct", lambda self, response, reference: True)
    recipe = recipe_with(write_recipe, ["sea"], {"type": "answer"})
    with pytest.raises(DataError) as raised:
        score(recipe)
    message = str(raised.value)
    for part in (
        "score/one",
        "rewards.exact gives 1",
        "a wrong response",
        "reference answer 'sea'",
    ):
        assert part in message
    assert "prompts.datasets.own.reference_answer" in message
    assert Pipeline(recipe).state("score/one") == "missing"  # other settings may have the folder
    assert not list(Pipeline(recipe).folder("score/one").glob("part-*"))


def test_a_verifier_that_misses_the_reference_answer_stops_the_stage(
    write_recipe, monkeypatch
) -> None:
    monkeypatch.setattr(AnswerVerifier, "is_correct", lambda self, response, reference: False)
    recipe = recipe_with(write_recipe, ["sea"], {"type": "answer"})
    with pytest.raises(DataError, match=r"gives 0 to the reference answer itself, 1 is right"):
        score(recipe)


def test_reference_answers_that_are_refused_are_told_before_scoring(write_recipe, caplog) -> None:
    pytest.importorskip("math_verify")
    recipe = recipe_with(write_recipe, ["42", r"\frac{1}{"], {"type": "math"})
    with caplog.at_level(logging.WARNING), pytest.raises(DataError, match="bad_reference_answer"):
        score(recipe)
    assert "exact refuses 1 of 2 reference answers" in caplog.text


def test_how_many_are_correct_is_said_and_kept(write_recipe, caplog) -> None:
    recipe = recipe_with(write_recipe, ["sea", "hill", "sea"], {"type": "answer"})
    with caplog.at_level(logging.INFO):
        score(recipe)
    assert "score/one: own: 2 of 3 responses correct (66.7 %) by exact" in caplog.text
    folder = Pipeline(recipe).finished("score/one")
    manifest = read_manifest(folder)
    assert manifest is not None and manifest["correct"] == {"exact": {"own": [2, 3]}}
    assert len(read_rows(folder)) == 3


@pytest.mark.parametrize(("text", "word"), [("sea", "all"), ("hill", "none")])
def test_all_or_none_correct_is_a_warning(write_recipe, caplog, text: str, word: str) -> None:
    recipe = recipe_with(write_recipe, ["sea"] * 12, {"type": "answer"})
    with caplog.at_level(logging.WARNING):
        score(recipe, text)
    assert f"finds {word} of the 12 responses of domain own correct" in caplog.text

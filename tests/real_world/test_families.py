"""Families of tasks and their splits: disjoint, decided by the seed, scored by reasoning-gym."""

from __future__ import annotations

import pytest

from real_world import families
from real_world.chat import QUESTIONS, documents, score_chat
from real_world.families import FAMILIES, split_tasks
from wrpo.errors import DataError
from wrpo.rewards import Candidate
from wrpo.rewards.reasoning_gym import EXECUTED, ReasoningGymReward

COUNTS = {"held_out": 6, "prompts": 7, "training": 12}


@pytest.mark.parametrize("family", FAMILIES)
def test_splits_share_no_question(family: str) -> None:
    pytest.importorskip("reasoning_gym")
    splits = split_tasks(family, **COUNTS, seed=4)
    held_out, prompts, training = (
        [task.question for task in tasks]
        for tasks in (splits.held_out, splits.prompts, splits.training)
    )
    assert [len(held_out), len(prompts), len(training)] == list(COUNTS.values())
    assert len({*held_out, *prompts}) == len(held_out) + len(prompts)
    assert not {*held_out, *prompts} & {*training}
    verifier = ReasoningGymReward(type="reasoning_gym").load()
    tried = [Candidate([], task.response, task.reference) for task in splits.prompts]
    assert verifier.score(tried) == [1.0] * len(tried)


def test_the_seed_decides_the_tasks() -> None:
    pytest.importorskip("reasoning_gym")
    one, same, other = (split_tasks("gcd", **COUNTS, seed=seed) for seed in (1, 1, 2))
    assert one == same != other


def test_a_family_without_enough_tasks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("reasoning_gym")
    monkeypatch.setattr(families, "FAMILIES", {"gcd": {"max_value": 3}})
    with pytest.raises(DataError, match="gcd has too few distinct tasks for seed 1: 9 of 14"):
        split_tasks("gcd", held_out=12, prompts=1, training=1, seed=1)


def test_no_family_executes_answers() -> None:
    assert not EXECUTED & set(FAMILIES)


def test_a_response_of_chat_needs_one_of_the_words() -> None:
    [row] = documents(1)
    assert row["question"] == next(iter(QUESTIONS))
    found = [score_chat(row, [text])["acc"] for text in ("It is paris.", "Parisian", "")]
    assert found == [1.0, 0.0, 0.0]


def test_no_question_of_chat_gives_its_word_away() -> None:
    for row in documents(len(QUESTIONS)):
        assert score_chat(row, [row["question"]])["acc"] == 0.0
        assert score_chat(row, [f"Well: {row['answers'][-1]}!"])["acc"] == 1.0

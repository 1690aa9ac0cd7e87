"""Families of tasks, made easy enough for a small model, and their disjoint splits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from wrpo.errors import DataError, ModelError
from wrpo.rewards.reasoning_gym import reference_of, written

FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 3, "max_digits": 2},
    "gcd": {"max_value": 60},
    "simple_equations": {"max_terms": 2, "max_value": 12},
    "spell_backward": {"max_word_len": 6},
    "word_sequence_reversal": {"max_words": 5},
    "word_sorting": {"max_words": 5, "max_word_length": 8},
    "letter_counting": {"min_words": 2, "max_words": 5},
    "calendar_arithmetic": {"tasks": ["weekday_offset", "is_leap_year"]},
}
"""reasoning-gym's names, and the settings that differ from its own."""

ASKED = "Answer between <answer> and </answer>."
_DRAWS = 20
"""Tasks drawn for each one wanted, before a family counts as exhausted."""


@dataclass(frozen=True)
class TaskEntry:
    """One task.

    Attributes:
        question: as reasoning-gym writes it, without the request for tags.
        reference: the reference answer of the reward `reasoning_gym`.
    """

    family: str
    question: str
    answer: str
    reference: str

    @property
    def prompt(self) -> str:
        """The user's message."""
        return f"{self.question}\n{ASKED}"

    @property
    def response(self) -> str:
        """The right response."""
        return written(self.answer, "answer")


@dataclass(frozen=True)
class Splits:
    """Tasks of one family; no question is in two of the lists."""

    held_out: list[TaskEntry]
    prompts: list[TaskEntry]
    training: list[TaskEntry]


def split_tasks(family: str, *, held_out: int, prompts: int, training: int, seed: int) -> Splits:
    """Draws tasks of a family.

    Held-out tasks and prompts have distinct questions; training tasks may repeat each other.

    Raises:
        DataError: the family has too few distinct tasks.
        ModelError: reasoning-gym is not installed.
    """
    wanted = held_out + prompts + training
    stream = _tasks(family, draws=_DRAWS * wanted, seed=seed)
    distinct: dict[str, TaskEntry] = {}
    for task in stream:
        distinct.setdefault(task.question, task)
        if len(distinct) == held_out + prompts:
            break
    learned = [task for task, _ in zip(_other(stream, distinct), range(training), strict=False)]
    if len(distinct) + len(learned) < wanted:
        raise DataError(
            f"{family} has too few distinct tasks for seed {seed}: {len(distinct) + len(learned)} "
            f"of {wanted}; ask for fewer, or give it wider settings in real_world/families.py"
        )
    first = list(distinct.values())
    return Splits(first[:held_out], first[held_out:], learned)


def _other(stream: Iterator[TaskEntry], taken: Mapping[str, TaskEntry]) -> Iterator[TaskEntry]:
    return (task for task in stream if task.question not in taken)


def _tasks(family: str, *, draws: int, seed: int) -> Iterator[TaskEntry]:
    if find_spec("reasoning_gym") is None:
        raise ModelError(
            "the real world needs the package reasoning-gym; install it with "
            'pip install "wrpo[real]"'
        )
    from reasoning_gym import create_dataset

    made = create_dataset(family, size=draws, seed=seed, **FAMILIES[family])
    for place in range(draws):
        entry = made[place]
        yield TaskEntry(family, entry["question"].strip(), entry["answer"], reference_of(entry))

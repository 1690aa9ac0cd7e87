"""The questions of judged benchmarks, from the files as they are published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wrpo.benchmarks.files import locate, read_records
from wrpo.errors import DataError
from wrpo.recipe.evaluation import Judged

MT_BENCH_REFERENCED = ("math", "reasoning", "coding")
"""Categories that are graded with a reference answer (FastChat)."""


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        number: its place in the published file, from 0.
        turns: what the user says, one text per turn.
        references: the baseline's answer, or reference answers, one text per turn; empty where
            the benchmark has none for this question.
    """

    id: str
    number: int
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...] = ()


def load_questions(name: str, judged: Judged) -> list[Question]:
    """The questions of a benchmark in the published order, the first `limit` of them.

    Raises:
        MissingInputError: a file is not there.
        DataError: a file lacks what the benchmark needs.
    """
    path = locate(name, "questions", judged.questions)
    loaders = {"alpaca_eval_2": _alpaca_eval, "arena_hard": _arena_hard, "mt_bench": _mt_bench}
    try:
        return loaders[name](path, judged)[: judged.limit]
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(
            f"{path}: not the question file of {name} ({type(error).__name__}: {error})"
        ) from None


def _alpaca_eval(path: Path, judged: Judged) -> list[Question]:
    return [
        Question(
            str(n), n, str(record.get("dataset", "")), (record["instruction"],), (record["output"],)
        )
        for n, record in enumerate(read_records(path))
    ]


def _arena_hard(path: Path, judged: Judged) -> list[Question]:
    questions = [
        Question(
            _id(record), n, str(record.get("cluster", record.get("category", ""))), _turns(record)
        )
        for n, record in enumerate(read_records(path))
    ]
    return _with_references(questions, "arena_hard", judged)


def _mt_bench(path: Path, judged: Judged) -> list[Question]:
    questions = [
        Question(_id(record), n, record["category"], _turns(record))
        for n, record in enumerate(read_records(path))
    ]
    if any(len(question.turns) != 2 for question in questions):
        raise DataError(
            f"{path}: not the question file of mt_bench, whose questions have two turns"
        )
    return _with_references(questions, "mt_bench", judged, only=MT_BENCH_REFERENCED)


def _with_references(
    questions: list[Question], name: str, judged: Judged, *, only: Sequence[str] | None = None
) -> list[Question]:
    """The first `limit` questions with the answers of the baseline or reference file.

    Args:
        only: the categories that have them; None: all.
    """
    path = locate(name, "references", judged.references)
    answers = {_id(record): _answer_turns(record) for record in read_records(path)}
    asked = questions[: judged.limit]
    needing = [question for question in asked if only is None or question.category in only]
    lacking = [question.id for question in needing if question.id not in answers]
    if lacking:
        raise DataError(f"{path}: has no answer to {len(lacking)} questions, e.g. {lacking[0]}")
    return [
        Question(q.id, q.number, q.category, q.turns, answers[q.id]) if q in needing else q
        for q in asked
    ]


def _id(record: dict[str, Any]) -> str:
    return str(record["question_id"] if "question_id" in record else record["uid"])


def _turns(record: dict[str, Any]) -> tuple[str, ...]:
    """FastChat's list of texts, Arena-Hard's list of contents, or its later `prompt`."""
    if "turns" not in record:
        return (str(record["prompt"]),)
    return tuple(turn if isinstance(turn, str) else turn["content"] for turn in record["turns"])


def _answer_turns(record: dict[str, Any]) -> tuple[str, ...]:
    """The texts of an answer file's record, in any of its three published forms."""
    if "messages" in record:
        contents = [turn["content"] for turn in record["messages"] if turn["role"] == "assistant"]
        return tuple(text if isinstance(text, str) else text["answer"] for text in contents)
    turns = record["choices"][0]["turns"]
    return tuple(turn if isinstance(turn, str) else turn["content"] for turn in turns)

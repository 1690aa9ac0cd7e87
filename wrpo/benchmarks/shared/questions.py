"""The questions of judged benchmarks, from the files as they are published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wrpo.benchmarks.shared.files import read_records
from wrpo.errors import DataError
from wrpo.rows.cells import UnreadableCellError, name_text


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        number: its place in the published file, from 0.
        turns: what the user says, one text per turn.
        references: the baseline's response, or reference answers, one text per turn; empty where
            the benchmark has none for this question.
    """

    id: str
    number: int
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...] = ()


def with_references(
    questions: list[Question], path: Path, *, only: Sequence[str] | None = None
) -> list[Question]:
    """The questions with the responses of a baseline's or a reference file, of FastChat's form.

    Args:
        only: the categories that have them; None: all.

    Raises:
        DataError: the file lacks some.
    """
    responses = {question_id(record): _response_turns(record) for record in read_records(path)}
    needing = [question for question in questions if only is None or question.category in only]
    lacking = [question.id for question in needing if question.id not in responses]
    if lacking:
        raise DataError(f"{path}: has no response to {len(lacking)} questions, e.g. {lacking[0]}")
    return [
        Question(q.id, q.number, q.category, q.turns, responses[q.id]) if q in needing else q
        for q in questions
    ]


def question_id(record: dict[str, Any]) -> str:
    """The id of a question or a response, in FastChat's form or Arena-Hard's."""
    found = label(record["question_id"] if "question_id" in record else record["uid"])
    if not found:
        raise DataError("a question has an empty id")
    return found


def label(value: Any) -> str:
    """The text of an id or a category; empty where there is none.

    Raises:
        DataError: the value is no name.
    """
    try:
        return name_text(value) or ""
    except UnreadableCellError as error:
        raise DataError(f"the id or the category of a question is {error}") from None


def question_turns(record: dict[str, Any]) -> tuple[str, ...]:
    """The user's turns: FastChat's texts, Arena-Hard's contents, or its later `prompt`."""
    if "turns" not in record:
        return (record["prompt"],)
    return tuple(turn if isinstance(turn, str) else turn["content"] for turn in record["turns"])


def _response_turns(record: dict[str, Any]) -> tuple[str, ...]:
    """The texts of a response file's record, in any of its three published forms."""
    if "messages" in record:
        contents = [turn["content"] for turn in record["messages"] if turn["role"] == "assistant"]
        return tuple(text if isinstance(text, str) else text["answer"] for text in contents)
    turns = record["choices"][0]["turns"]
    return tuple(turn if isinstance(turn, str) else turn["content"] for turn in turns)

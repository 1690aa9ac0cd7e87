"""Exchanges of task-oriented dialogues and the records that they are about, from JSON lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wrpo.errors import DataError
from wrpo.files import read_lines

Record = Mapping[str, str]


@dataclass(frozen=True)
class DialogueExchange:
    """What was said, what was answered, and the records that the answer may come from."""

    context: str
    response: str
    records: tuple[Record, ...]

    def best(self) -> list[int]:
        """Places of the records of which most values are in the response.

        Empty where the response tells no record from another: then none of them is the right one.
        """
        found = [len(named(record.values(), self.response)) for record in self.records]
        most = max(found)
        return [i for i, count in enumerate(found) if count == most] if most > min(found) else []


def named(values: Iterable[str], text: str) -> list[str]:
    """The values that a text has as whole words, each once; case does not count."""
    return [value for value in dict.fromkeys(values) if re.search(_words(value), text, re.I)]


def places(values: Iterable[str], text: str) -> list[tuple[int, int]]:
    """Where in a text values are, as (first character, one past the last)."""
    return [found.span() for value in values for found in re.finditer(_words(value), text, re.I)]


def _words(value: str) -> str:
    return rf"(?<!\w){re.escape(value)}(?!\w)"


def text_of(record: Record, kept: Iterable[str] | None = None) -> str:
    """`name: X; area: Y`, of all attributes or those that are kept."""
    names = record if kept is None else [name for name in record if name in set(kept)]
    return "; ".join(f"{name}: {record[name]}" for name in names)


def attributes_of(exchanges: Sequence[DialogueExchange]) -> list[str]:
    """All attributes of all records, in the order of their first appearance."""
    return list(
        dict.fromkeys(name for one in exchanges for record in one.records for name in record)
    )


def read_exchanges(path: Path, records: Path | None = None) -> list[DialogueExchange]:
    """The exchanges of a file.

    Args:
        path: lines of {"messages": [{"role", "content"}], "response": text, "records": [...]}.
        records: lines of objects, the records of all exchanges that bring none.

    Raises:
        MissingInputError: a file is not there.
        DataError: a line has another form, or there is none.
    """
    shared = [_record(row, f"{records}") for row in read_lines(records)] if records else []
    exchanges = [
        _exchange(row, shared, f"{path} row {number}")
        for number, row in enumerate(read_lines(path), start=1)
    ]
    if not exchanges:
        raise DataError(f"{path}: no exchanges; write one JSON object a line")
    return exchanges


def _exchange(row: Mapping[str, Any], shared: Sequence[Record], where: str) -> DialogueExchange:
    turns, response = row.get("messages"), row.get("response")
    if not isinstance(response, str) or not response.strip() or not _are_turns(turns):
        raise DataError(
            f'{where}: needs "messages", a list of {{"role", "content"}}, and "response", a text'
        )
    own = row.get("records")
    found = tuple(_record(one, where) for one in own) if isinstance(own, list) else tuple(shared)
    if len(found) < 2:
        raise DataError(
            f"{where}: {len(found)} records, and there must be two to choose from; give them as "
            '"records", or for all exchanges by --records'
        )
    context = "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns or ())
    return DialogueExchange(context, response, found)


def _are_turns(turns: object) -> bool:
    return (
        isinstance(turns, list)
        and bool(turns)
        and all(
            isinstance(turn, dict)
            and all(isinstance(turn.get(k), str) for k in ("role", "content"))
            for turn in turns
        )
    )


def _record(row: object, where: str) -> Record:
    """A record without its empty values."""
    if not isinstance(row, dict) or not all(isinstance(v, str | int | float) for v in row.values()):
        raise DataError(f"{where}: a record is an object of texts and numbers, not {row!r:.80}")
    record = {name: str(value).strip() for name, value in row.items() if str(value).strip()}
    if not record:
        raise DataError(f"{where}: a record has no values")
    return record

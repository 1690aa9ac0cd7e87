"""What rows of data sets hold beside the text of a conversation: read, refused or counted by name.

A conversation without its tool calls, images or reasoning says something else, so what is listed
here is refused. Other columns and message keys that no stage reads change nothing; they are counted
by name where a data set is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

CONTEXT_COLUMNS = (
    *("tools", "functions", "documents", "chat_template_kwargs"),
    *("image", "images", "audio", "audios", "video", "videos"),
)
"""Columns that a prompt is not whole without."""

RESPONSE_COLUMNS = ("tool_calls", "function_call", "reasoning_content")
"""Columns that a response is not whole without."""

MESSAGE_KEYS = (
    *("tool_calls", "tool_call_id", "tool_responses", "function_call", "tools"),
    *("reasoning_content", "reasoning", "thinking"),
    *("image", "images", "audio", "video"),
)
"""Keys of a message that it is not whole without."""


class WatchedRow(Mapping[str, Any]):
    """A row that remembers which of its columns were read.

    Attributes:
        read: names of these.
    """

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row
        self.read: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        value = self._row[name]
        self.read.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._row

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)

    def unread(self) -> Iterator[str]:
        """What holds something and was not read: COLUMN, or COLUMN[].KEY for a key of messages."""
        for name, value in self._row.items():
            if name not in self.read:
                if holds_something(value):
                    yield str(name)
                continue
            for key in dict.fromkeys(_unread_keys(value)):
                yield f"{name}[].{key}"


def held(row: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first of the names under which a row or a message holds something."""
    present = (name for name in names if name in row)
    return next((name for name in present if holds_something(row[name])), None)


def holds_something(value: Any) -> bool:
    """False for None, blank text, False, and what holds nothing else."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, Mapping):
        return any(map(holds_something, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(holds_something, value))
    return value is not None and value is not False


def message_keys(turn: Mapping[str, Any]) -> tuple[str, str]:
    """The keys of speaker and text: role and content, or from and value (ShareGPT)."""
    sharegpt = turn.get("role") is None and turn.get("from") is not None
    return ("from", "value") if sharegpt else ("role", "content")


def _unread_keys(value: Any) -> Iterator[str]:
    turns = value if isinstance(value, (list, tuple)) else [value]
    for turn in turns:
        if isinstance(turn, Mapping) and set(message_keys(turn)) <= turn.keys():
            read = message_keys(turn)
            yield from (k for k, v in turn.items() if k not in read and holds_something(v))

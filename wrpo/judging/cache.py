"""Judgements on disk: one SQLite file that only grows, so that none is paid for twice.

Each verdict is committed as it arrives; a killed process loses those in flight. Several processes
may share a file. For new judgements give the judge another `version`: a verdict is never
overwritten. Only a reply without one (cut, or empty) makes room for a later reply.
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from wrpo.errors import DataError, raise_if_of_system
from wrpo.judging.request import Body, Verdict

_WAIT_S = 60.0
_OF_SYSTEM = {
    "SQLITE_FULL": errno.ENOSPC,
    "SQLITE_READONLY": errno.EROFS,
    "SQLITE_CANTOPEN": errno.EACCES,
}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS judgements (
    key TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    template TEXT NOT NULL,
    request TEXT NOT NULL,
    verdict TEXT NOT NULL,
    characters INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    written TEXT NOT NULL
) WITHOUT ROWID
"""
_REMOVE = "DELETE FROM judgements WHERE key = ? AND verdict = ?"
_INSERT = "INSERT OR IGNORE INTO judgements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FIELDS = {field.name for field in fields(Verdict)}
_TUPLES = ("top_logprobs", "tokens")
_MEANS = """
SELECT SUM(characters) * 1.0 / SUM(input_tokens), AVG(output_tokens)
FROM judgements WHERE model = ? AND version = ? AND template = ? AND input_tokens > 0
"""


def cache_path(runs: Path) -> Path:
    """The file that all runs below one folder share."""
    return runs / "judgements.sqlite"


class JudgementCache:
    """A file of judgements; a context manager that closes it.

    Raises:
        DataError: the file is not a cache of judgements, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._connection = sqlite3.connect(path, timeout=_WAIT_S)
            with self._connection:
                self._connection.execute(_SCHEMA)

    def __enter__(self) -> JudgementCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def get(self, key: str) -> Verdict | None:
        """The verdict under this key, or None."""
        with self._explained():
            row = self._connection.execute(
                "SELECT verdict FROM judgements WHERE key = ?", (key,)
            ).fetchone()
            if row is None:
                return None
            kept = {name: v for name, v in json.loads(row[0]).items() if name in _FIELDS}
            kept |= {name: tuple(kept[name]) for name in _TUPLES if name in kept}
            return Verdict(**{**kept, "cached": True})

    def remove(self, key: str, *, limited: bool) -> None:
        """Makes room under a key if the reply there holds nothing to read."""
        with self._explained(), self._connection:
            row = self._connection.execute(
                "SELECT verdict FROM judgements WHERE key = ?", (key,)
            ).fetchone()
            found = self.get(key)
            if row is not None and found is not None and found.missing(limited=limited):
                self._connection.execute(_REMOVE, (key, row[0]))

    def put(self, key: str, body: Body, verdict: Verdict, *, template: str, version: str) -> None:
        """Adds a verdict; the first one under a key stays."""
        written = datetime.now(UTC).isoformat(timespec="seconds")
        row = (
            key,
            str(body["model"]),
            version,
            template,
            json.dumps(body, ensure_ascii=False),
            json.dumps(asdict(replace(verdict, cached=False)), ensure_ascii=False),
            sum(len(message["content"]) for message in body["messages"]),
            verdict.input_tokens,
            verdict.output_tokens,
            written,
        )
        with self._explained(), self._connection:
            self._connection.execute(_INSERT, row)

    def measured(self, model: str, version: str, template: str) -> tuple[float, float] | None:
        """Characters per input token and mean output tokens of earlier judgements of a kind."""
        with self._explained():
            row = self._connection.execute(_MEANS, (model, version, template)).fetchone()
        return None if row[0] is None else (float(row[0]), float(row[1]))

    def __len__(self) -> int:
        with self._explained():
            return int(self._connection.execute("SELECT COUNT(*) FROM judgements").fetchone()[0])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError, KeyError) as error:
            number = _OF_SYSTEM.get(getattr(error, "sqlite_errorname", ""))
            if number:
                folder = number == errno.EACCES and self.path.is_dir()
                raise_if_of_system(OSError(errno.EISDIR if folder else number, ""), self.path)
            raise DataError(
                f"{self.path}: cannot be used as a cache of judgements ({error}); if another "
                "process holds it, wait for that one; if it is damaged, move it away, and its "
                "judgements are asked for again"
            ) from error

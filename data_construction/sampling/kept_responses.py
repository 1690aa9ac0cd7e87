"""Responses of parts that are not full yet, kept on disk as they come, because they were paid for.

A part is written when it is full. Until then its responses lie beside it, one JSON line each, and a
stage that was stopped asks only for what is missing.
"""

from __future__ import annotations

import json
from pathlib import Path

from wrpo.files import PARTIAL
from wrpo.pipeline.tables import Row


class KeptResponses:
    """The kept responses of one part.

    Args:
        folder: of the stage; completing the stage removes what is left there.
    """

    def __init__(self, folder: Path, part: int) -> None:
        self._path = folder / f".responses-{part:05d}.jsonl{PARTIAL}"

    def read(self) -> list[Row]:
        """Those that are whole; a killed process may have left half a line."""
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        rows = [row for line in lines if (row := _row(line))]
        if len(rows) < len(lines):  # or the next line would be joined to the broken one
            whole = "".join(f"{json.dumps(row)}\n" for row in rows)
            self._path.write_text(whole, encoding="utf-8")
        return rows

    def add(self, row: Row) -> None:
        """Keeps one more."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(row)}\n")

    def remove(self) -> None:
        """The part is written."""
        self._path.unlink(missing_ok=True)


def _row(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"prompt_id", "index", "text"} <= row.keys() else None

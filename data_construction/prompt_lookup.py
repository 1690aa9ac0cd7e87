"""Rows by prompt id, without holding a whole table in memory."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

import pyarrow as pa

from wrpo.errors import DataError
from wrpo.tables import PROMPTS, Row, parts, read_column, read_parquet

_PARTS_IN_MEMORY = 2


class RowLookup:
    """The rows of a finished stage by prompt id; only ids and the parts read last are in memory."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._path_of = {
            key: path
            for path in parts(folder)
            for key in read_column(path, "prompt_id", schema).unique().to_pylist()
        }
        self._rows = lru_cache(maxsize=_PARTS_IN_MEMORY)(partial(_by_id, schema=schema))

    def rows(self, prompt_id: str) -> list[Row]:
        """The rows of one prompt, in their order; none where it has none."""
        path = self._path_of.get(prompt_id)
        return self._rows(path)[prompt_id] if path else []


class PromptLookup(RowLookup):
    """The rows of RUN/prompts, one per prompt."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, PROMPTS)

    def __getitem__(self, prompt_id: str) -> Row:
        """The row of one prompt.

        Raises:
            DataError: no such prompt.
        """
        rows = self.rows(prompt_id)
        if not rows:
            raise DataError(f"answer to unknown prompt {prompt_id}; sample again")
        return rows[0]


def _by_id(path: Path, schema: pa.Schema) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in read_parquet(path, schema):
        found.setdefault(row["prompt_id"], []).append(row)
    return found

"""Prompts by id, without holding all of them in memory."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from wrpo.errors import DataError
from wrpo.tables import Row, parts, read_column, read_parquet

_PARTS_IN_MEMORY = 2


class PromptLookup:
    """The rows of RUN/prompts by prompt id; only ids and the parts read last are in memory."""

    def __init__(self, folder: Path) -> None:
        self._path_of = {
            key: path
            for path in parts(folder)
            for key in read_column(path, "prompt_id").to_pylist()
        }
        self._rows = lru_cache(maxsize=_PARTS_IN_MEMORY)(_by_id)

    def __getitem__(self, prompt_id: str) -> Row:
        """The row of one prompt.

        Raises:
            DataError: no such prompt.
        """
        path = self._path_of.get(prompt_id)
        if path is None:
            raise DataError(f"answer to unknown prompt {prompt_id}; sample again")
        return self._rows(path)[prompt_id]


def _by_id(path: Path) -> dict[str, Row]:
    return {row["prompt_id"]: row for row in read_parquet(path)}

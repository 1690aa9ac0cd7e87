"""Which prompts belong to which part of a sampling stage, without holding them all."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from wrpo.tables import Row, parts, read_column, read_table

_COLUMNS = ["prompt_id", "messages"]


class PromptParts:
    """The prompts of a finished folder, cut into parts of `size` rows in their order.

    Only row counts are kept; a part is read when it is asked for. One file stays decoded, so that
    parts in ascending order decode each file once.

    Args:
        folder: the prompts' folder.
        size: prompts per part.
        split: only prompts of this split; None: all.
        limit: only so many, from the front; None: all.
    """

    def __init__(
        self, folder: Path, size: int, *, split: str | None = None, limit: int | None = None
    ) -> None:
        self._size = size
        self._split = split
        self._files = parts(folder)
        counts = [self._count(file) for file in self._files]
        self._starts = [0, *accumulate(counts)]
        self.total = self._starts[-1] if limit is None else min(limit, self._starts[-1])
        self._decoded: tuple[int, pa.Table] | None = None

    def __len__(self) -> int:
        """Number of parts."""
        return -(-self.total // self._size)

    def size(self, part: int) -> int:
        """Number of prompts in one part."""
        return min(self._size, self.total - part * self._size)

    def read(self, part: int) -> list[Row]:
        """The prompts of one part: prompt_id and messages.

        Raises:
            DataError: a file is missing or damaged.
        """
        at = part * self._size
        end = at + self.size(part)
        rows: list[Row] = []
        while at < end:
            number = bisect_right(self._starts, at) - 1
            stop = min(end, self._starts[number + 1])
            start = self._starts[number]
            rows += self._table(number)[at - start : stop - start].to_pylist()
            at = stop
        return rows

    def _count(self, file: Path) -> int:
        if self._split is None:
            return int(read_table(file, columns=[]).num_rows)
        splits = read_column(file, "split")
        return int(pc.sum(pc.equal(splits, self._split)).as_py() or 0)

    def _table(self, number: int) -> pa.Table:
        if self._decoded is None or self._decoded[0] != number:
            self._decoded = None  # before the next is read, so that only one is in memory
            table = read_table(self._files[number], columns=[*_COLUMNS, "split"])
            if self._split is not None:
                table = table.filter(pc.equal(table["split"], self._split))
            self._decoded = (number, table.select(_COLUMNS))
        return self._decoded[1]

"""Which prompts belong to which part of a sampling stage, without holding them all."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from wrpo.chat.template import Messages
from wrpo.errors import RecipeError
from wrpo.pipeline.tables import PROMPTS, Row, parts, read_table
from wrpo.recipe import Recipe
from wrpo.recipe.resolved import routed
from wrpo.routing.router import Router

KeepPrompts = Callable[[Sequence[Messages]], list[bool]]
"""Which of some prompts are kept, by their messages."""

_COLUMNS = ["prompt_id", "messages", "domain"]


class PromptParts:
    """The prompts of a finished folder, cut into parts of `size` rows in their order.

    Only row counts are kept; a part is read when it is asked for. One file stays decoded, so that
    parts in ascending order decode each file once.

    Args:
        folder: the prompts' folder.
        size: prompts per part.
        split: only prompts of this split; None: all.
        domains: only prompts of these; None: all.
        keep: which of some prompts, by their messages; None: all.
        limit: only so many, from the front; None: all.
    """

    def __init__(
        self,
        folder: Path,
        size: int,
        *,
        split: str | None = None,
        domains: Sequence[str] | None = None,
        keep: KeepPrompts | None = None,
        limit: int | None = None,
    ) -> None:
        self._size = size
        self._split = split
        self._domains = None if domains is None else pa.array(domains)
        self._keep = keep
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
        """The prompts of one part: prompt_id, messages and domain.

        Raises:
            DataError: a file is missing or damaged.
        """
        at = part * self._size
        rows: list[Row] = []
        for number, first, last in self._pieces(at, at + self.size(part)):
            rows += self._table(number)[first:last].to_pylist()
        return rows

    def domains(self, part: int | None = None) -> Counter[str]:
        """How many prompts of one part, or of all, each domain has."""
        at, end = 0, self.total
        if part is not None:
            at, end = part * self._size, part * self._size + self.size(part)
        found: Counter[str] = Counter()
        for number, first, last in self._pieces(at, end):
            column = self._kept(self._files[number], ["domain"])["domain"]
            found.update(column[first:last].to_pylist())
        return found

    def _pieces(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(file number, first row, row after the last) of the rows from `at` to `end`."""
        while at < end:
            number = bisect_right(self._starts, at) - 1
            stop = min(end, self._starts[number + 1])
            yield number, at - self._starts[number], stop - self._starts[number]
            at = stop

    def _count(self, file: Path) -> int:
        if self._split is None and self._domains is None and self._keep is None:
            return int(read_table(file, columns=[]).num_rows)
        return int(self._kept(file, ["domain"]).num_rows)

    def _table(self, number: int) -> pa.Table:
        if self._decoded is None or self._decoded[0] != number:
            self._decoded = None  # before the next is read, so that only one is in memory
            self._decoded = (number, self._kept(self._files[number], _COLUMNS))
        return self._decoded[1]

    def _kept(self, file: Path, columns: list[str]) -> pa.Table:
        """Columns of the rows of a file that have the split and the domains."""
        needed = [*columns, "split", *(["messages"] if self._keep else [])]
        table = read_table(file, list(dict.fromkeys(needed)), PROMPTS)
        if self._split is not None:
            table = table.filter(pc.equal(table["split"], self._split))
        if self._domains is not None:
            table = table.filter(pc.is_in(table["domain"], value_set=self._domains))
        if self._keep is not None:
            table = table.filter(pa.array(self._keep(table["messages"].to_pylist()), pa.bool_()))
        return table.select(columns)


def sent_to(recipe: Recipe, source: str) -> KeepPrompts | None:
    """Which prompts the recipe's router sends to a source; None: there is no router, and so all.

    Raises:
        MissingInputError: the router's file is not there.
        RecipeError: the router does not know the source.
    """
    settings = routed(recipe, source)
    if settings is None:
        return None
    router, count = Router.load(settings.file), settings.per_prompt
    if source not in router.sources:
        raise RecipeError(
            f"sample.router.file: {settings.file} knows {', '.join(router.sources)} and not "
            f"{source}; learn it again from a run with these sources"
        )
    return lambda prompts: [source in router.chosen(one, count=count) for one in prompts]

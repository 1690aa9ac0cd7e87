"""How a stage runs: every command does its work inside `with open_stage(...) as work`.

    with open_stage(pipeline, "score/qwen72b", parts=9, shard=shard, limit=limit) as work:
        for part in work.todo:
            work.write_part(part, rows, SCORES, dropped=dropped)

Entering claims the folder under the stage's key, so that rows of other settings never mix with it,
and locks it, or this shard of it. A stage that is complete, here or in the run that `reuse` names,
has nothing in `todo`. Leaving completes the manifest, once all parts are there; an error leaves the
stage partial, or, where nothing was made, the folder free for other settings.

A process may be killed anywhere. A part is written under a temporary name and renamed, its dropped
rows before it, and the manifest says `complete` last. So what a killed process leaves is whole
parts, and dropped rows whose part will be made with them again; its lock goes with it, and the same
command makes the parts that are missing. Shards share nothing but the folder: the one that finds
all parts there completes it.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from wrpo.errors import DataError
from wrpo.pipeline.folder import DROPPED_FILE, PartWriter, StageFolder
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import DROPPED, Row, write_parquet

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """Shard `number` of `count`, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads "2/4"; argparse turns the error into a message."""
        number, _, count = text.partition("/")
        if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
            raise argparse.ArgumentTypeError(f'"{text}" is not I/N with 1 <= I <= N, e.g. 2/4')
        return cls(int(number), int(count))

    def of(self, parts: int) -> list[int]:
        """The part numbers of this shard."""
        return list(range(self.number - 1, parts, self.count))

    @property
    def lock_name(self) -> str:
        """Distinct for every shard, so that different shards run at once."""
        return f"{self.number}-of-{self.count}"

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@dataclass(frozen=True)
class DropLimit:
    """How much a stage may drop before it stops, counted over all its parts and starts.

    Attributes:
        share: of its rows, `max_dropped_share` of the recipe.
        total: counts the rows that it would have without a loss.
        cost: how many of them one dropped row stands for.
        again: reasons that may pass. A stage that has stopped at the limit makes the parts with
            such rows again when it is started again.
    """

    share: float
    total: Callable[[], int]
    cost: Callable[[Row], int] = lambda row: 1
    again: frozenset[str] = frozenset()


class StageWork:
    """A stage that is open: what is to do, and where it goes.

    Attributes:
        name: of the stage.
        path: its folder; that of the other run where it is reused.
        complete: there is nothing to do.
        todo: numbers of the parts of this shard that are missing, in order.
        writer: writes its parts; other processes may have it. What they write is reported here by
            `written`.
        facts: counts and measurements to keep in the manifest.
    """

    def __init__(
        self,
        name: str,
        folder: StageFolder,
        *,
        parts: int | None = None,
        shard: Shard | None = None,
        limit: DropLimit | None = None,
    ) -> None:
        self.name = name
        self.path = folder.path
        self.complete = False
        self.todo: list[int] = []
        self.writer: PartWriter = folder
        self.facts: dict[str, Any] = {}
        self._folder = folder
        self._parts = parts
        self._shard = shard
        self._limit = limit
        self._unfinished = False
        self._lost = self._total = 0

    def write_part(
        self, part: int, rows: list[Row], schema: pa.Schema, *, dropped: list[Row] | None = None
    ) -> None:
        """Writes one part, and then what it dropped counts.

        Raises:
            DataError: more rows are dropped than the limit allows; the reasons are kept.
        """
        self.writer.write_part(part, rows, schema, dropped=dropped)
        self._lose(dropped or [])

    def written(self, part: int) -> None:
        """Counts what a part dropped that went through `writer`; errors as `write_part`."""
        self._lose(self._folder.dropped_of(part) if self._limit else [])

    def write_table(
        self, rows: list[Row], schema: pa.Schema, *, dropped: list[Row] | None = None
    ) -> None:
        """Writes a table that fits in memory, as all parts of a stage whose number was unknown."""
        self._parts = self._folder.write_table(rows, schema, dropped=dropped)

    def check_dropped(
        self, dropped: list[Row], *, total: int, limit: float, lost: int | None = None
    ) -> None:
        """Keeps the reasons and stops when too much is dropped.

        Args:
            total: rows without a loss.
            limit: the share of them that may be dropped.
            lost: how many of them the dropped rows stand for, where it is not one each.

        Raises:
            DataError: more is dropped; names the first reason and the command that shows all.
        """
        lost = len(dropped) if lost is None else lost
        share = lost / max(1, total)
        if share <= limit:
            return
        write_parquet(self.path / DROPPED_FILE, dropped, DROPPED)
        first = dropped[0]
        again = self._limit.again if self._limit else frozenset()
        passing = any(row["reason"] in again for row in dropped)
        raise DataError(
            f"{self.path}: {lost} of {total} rows dropped ({share:.0%}), more than "
            f"max_dropped_share={limit:.0%} allows. First reason: {first['reason']} "
            f"({first['detail']}). All of them: python -m data_construction.peek {self.path} "
            "--dropped. "
            + ("The same command asks for what may pass again. " if passing else "")
            + "Fix the data, or raise the limit"
        )

    def leave_unfinished(self) -> None:
        """The stage stays partial when the block ends: something that it needs is not there yet."""
        self._unfinished = True

    def begin(self) -> None:
        """Finds what is left to do; the stage is locked.

        Raises:
            DataError: more is dropped than the limit allows, or a part is not of this stage.
        """
        self._folder.check_parts()
        self._total = self._limit.total() if self._limit else 0
        if self._parts is not None:
            numbers = self._shard.of(self._parts) if self._shard else list(range(self._parts))
            self._forget_passing(numbers)
            done = self._folder.done_parts()
            self.todo = [part for part in numbers if part not in done]
            if done:
                counts = (self.name, len(self.todo), self._parts)
                logger.info("%s: resuming, %d of %d parts to do", *counts)
        if self._limit:
            self._lose(self._folder.dropped_rows())

    def finish(self) -> None:
        """Completes the manifest, unless parts are missing or the stage is to stay partial."""
        if self._unfinished:
            return
        if self._parts is None:
            self._folder.finish(**self.facts)
        elif not self._folder.finish_parts(self._parts, **self.facts):
            shard = f"shard {self._shard}" if self._shard else "this process"
            logger.info("%s: %s done, others are not", self.name, shard)

    def _forget_passing(self, numbers: list[int]) -> None:
        """Takes parts back whose dropped rows may pass by now, if these are what has stopped it."""
        if self._limit is None or not self._limit.again:
            return
        lost = sum(map(self._limit.cost, self._folder.dropped_rows()))
        if lost <= self._limit.share * self._total:
            return
        for part in numbers:
            if self._limit.again & {row["reason"] for row in self._folder.dropped_of(part)}:
                self._folder.forget_part(part)

    def _lose(self, dropped: list[Row]) -> None:
        if self._limit is None:
            return
        self._lost += sum(map(self._limit.cost, dropped))
        if self._lost > self._limit.share * self._total:
            rows, share = self._folder.dropped_rows(), self._limit.share
            self.check_dropped(rows, total=self._total, limit=share, lost=self._lost)


@contextmanager
def open_stage(
    pipeline: Pipeline,
    name: str,
    *,
    parts: int | None = None,
    shard: Shard | None = None,
    limit: DropLimit | None = None,
    trial: int | None = None,
    helper: bool = False,
    remake: bool = False,
) -> Iterator[StageWork]:
    """Opens a stage for the one that does it; see the top of this file.

    Args:
        parts: how many there will be, where that is known; None too for a stage without parts.
        shard: whose parts these are; others may do theirs at once. None: the whole stage is ours.
        limit: on what is dropped.
        trial: only so many prompts, in a folder of their own beside the stage's, which is never
            reused.
        helper: another process of a distributed run has the lock and completes the stage.
        remake: makes the stage again whatever its state, and replaces one of other settings.

    Raises:
        StageError: the folder was made with other settings, or another process works on it.
        DataError: more rows are dropped already than the limit allows.
    """
    key = pipeline.key(name)
    folder = StageFolder(
        pipeline.folder(name, trial=trial), key if trial is None else {**key, "limit": trial}
    )
    if remake and pipeline.state(name) == "stale":
        shutil.rmtree(folder.path)
    reused = pipeline.reused(name) if trial is None and not remake else None
    work = StageWork(name, folder, parts=parts, shard=shard, limit=limit)
    work.path = reused or folder.path

    def claim() -> bool:
        """Whether the stage is complete."""
        return reused is not None or (folder.open(parts=parts) and not remake)

    work.complete = claim()
    unlocked = work.complete or helper
    with nullcontext() if unlocked else folder.lock(shard.lock_name if shard else "all"):
        work.complete = work.complete or claim()  # another process may have completed it just now
        if work.complete:
            logger.info("%s: complete, nothing to do (%s)", name, work.path)
        else:
            work.begin()
        try:
            yield work
        except BaseException as error:
            error.add_note(f"stage {name}")
            others = shard is not None and shard.count > 1
            if not (work.complete or helper or others):
                folder.release()
            raise
        if not (work.complete or helper):
            work.finish()

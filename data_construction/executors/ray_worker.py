"""The two kinds of actors: the coordinator, which holds the queue, and the workers, which pull.

Ray is imported by whoever creates them; nothing here needs it at import.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_construction.executors.job import OpenMaker, PartPlace, Unit
from data_construction.executors.part_queue import PartQueue
from data_construction.executors.transport import WorkersSide
from wrpo.pipeline.folder import PartWriter
from wrpo.pipeline.tables import Row
from wrpo.recipe import Recipe


class Coordinator:
    """Hands out units and collects delivered parts; workers and driver wait on it."""

    def __init__(self, units: Sequence[Unit], *, attempts: int) -> None:
        self._queue = PartQueue(range(len(units)), attempts=attempts)
        self._missing = [set(unit) for unit in units]
        self._unit_of = {place: number for number, unit in enumerate(units) for place in unit}
        self._units = units
        self._delivered: list[PartPlace] = []
        self._known: set[str] = set()
        self._changed = asyncio.Condition()

    async def take(self, worker: str, *, wait: bool) -> Unit | None:
        """The next unit for a worker.

        With `wait` None means that the job is finished; without, that there is none right now. A
        worker with units in hand must not wait: its engine would idle.
        """
        async with self._changed:
            self._known.add(worker)
            if wait and self._queue.in_hand(worker):
                raise AssertionError(f"worker {worker} has not written all its parts")
            while True:
                number = self._queue.take(worker)
                if number is not None:
                    return self._units[number]
                if not wait or self._queue.closed:
                    return None
                await self._changed.wait()

    async def delivered(self, worker: str, place: PartPlace) -> None:
        """A worker has delivered a part."""
        async with self._changed:
            number = self._unit_of[place]
            if place in self._missing[number]:
                self._missing[number].discard(place)
                self._delivered.append(place)
            if not self._missing[number]:
                self._queue.done(worker, number)
            self._changed.notify_all()

    async def lost(self, worker: str) -> tuple[list[Unit], Unit | None]:
        """Takes a lost worker's units back; also the one that has lost too many workers."""
        async with self._changed:
            numbers, deadly = self._queue.lost(worker)
            self._changed.notify_all()
        return [self._units[n] for n in numbers], None if deadly is None else self._units[deadly]

    async def news(self, seen: int) -> list[PartPlace]:
        """The delivered parts after the first `seen`, as soon as there are any."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._delivered) > seen)
            return self._delivered[seen:]

    async def so_far(self, seen: int) -> list[PartPlace]:
        """The delivered parts after the first `seen`, if there are any."""
        return self._delivered[seen:]

    async def known(self) -> int:
        """How many workers have ever asked for a unit."""
        return len(self._known)


@dataclass(frozen=True)
class WorkerJob:
    """All that a worker must know, in a form that travels."""

    recipe: dict[str, Any]
    open_maker: OpenMaker
    files: WorkersSide
    directory: str


class Worker:
    """One replica of the stage's model; makes parts until none is left."""

    def __init__(self, job: WorkerJob) -> None:
        self._job = job
        # The driver has the progress bar.
        os.environ.setdefault("TQDM_DISABLE", "1")
        # Relative paths of the recipe mean what they mean to the driver, where that place exists.
        if Path(job.directory).is_dir():
            os.chdir(job.directory)

    def run(self, name: str, coordinator: Any) -> None:
        """Loads the model and works; returns when the job is finished."""
        import ray

        from wrpo.cli import configure_logging

        def take(*, wait: bool) -> Unit | None:
            unit: Unit | None = ray.get(coordinator.take.remote(name, wait=wait))
            return unit

        def delivered(place: PartPlace) -> None:
            ray.get(coordinator.delivered.remote(name, place))

        configure_logging()
        job = self._job
        with job.files.workplace() as (inputs, outputs):
            reporting = {
                stage: _Reporting(stage, writer, job.files, delivered)
                for stage, writer in outputs.items()
            }
            maker = job.open_maker(Recipe.model_validate(job.recipe), inputs, reporting)
            while (unit := take(wait=True)) is not None:
                maker(self._pull(unit, take))

    def _pull(self, first: Unit, take: Callable[..., Unit | None]) -> Iterator[Unit]:
        unit: Unit | None = first
        while unit is not None:
            for place in unit:
                self._job.files.fetch(place)
            yield unit
            unit = take(wait=False)


class _Reporting(PartWriter):
    """Delivers each part that it writes and says so."""

    def __init__(
        self,
        stage: str,
        writer: PartWriter,
        files: WorkersSide,
        delivered: Callable[[PartPlace], None],
    ) -> None:
        super().__init__(writer.path, writer.key)
        self._stage, self._files, self._delivered = stage, files, delivered

    def write_part(
        self, part: int, rows: list[Row], schema: pa.Schema, *, dropped: list[Row] | None = None
    ) -> None:
        super().write_part(part, rows, schema, dropped=dropped)
        place = PartPlace(self._stage, part)
        self._files.deliver(place)
        self._delivered(place)

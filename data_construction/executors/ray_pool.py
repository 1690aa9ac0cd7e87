"""The driver of a job on Ray: starts workers, replaces lost ones, brings parts home.

All state that matters is in the stage folders; a driver that is killed is simply started again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_construction.executors.job import Needs, PartPlace, PartsJob, Unit
from data_construction.executors.ray_cluster import connected, replica_needs, room_for
from data_construction.executors.ray_worker import Coordinator, Worker, WorkerJob
from data_construction.executors.transport import OneDisk, ThroughShared, Transport
from wrpo.errors import StageError, WRPOError
from wrpo.recipe.executor import RayExecutor

logger = logging.getLogger(__name__)

_SILENCE_S = 60.0
_SHORT = 300
_LONG = 1500


class RayPool:
    """Makes the parts of one job."""

    def __init__(self, job: PartsJob, executor: RayExecutor) -> None:
        self.job = job
        self.executor = executor
        self._files: Transport = (
            ThroughShared(job, executor.shared) if executor.shared else OneDisk(job)
        )

    def run(self) -> None:
        """Makes what is not waiting in the shared folder already."""
        from tqdm import tqdm

        home = self._bring_home_waiting()
        left = [tuple(place for place in unit if place not in home) for unit in self.job.units]
        units = [unit for unit in left if unit]
        if not units:
            return
        with connected(self.executor):
            workers = _Workers(self.job, self.executor, units, self._files)
            parts = sum(map(len, units))
            try:
                workers.start()
                with tqdm(total=parts, unit="part", desc=self.job.name) as bar:
                    for place in workers.delivered(parts):
                        self._files.bring_home(place)
                        self.job.works[place.stage].written(place.part)
                        bar.update(1)
            finally:
                workers.stop()

    def _bring_home_waiting(self) -> set[PartPlace]:
        waiting = self._files.waiting()
        for place in sorted(waiting):
            self._files.bring_home(place)
            self.job.works[place.stage].written(place.part)
        if waiting:
            logger.info("%s: %d parts were waiting in executor.shared", self.job.name, len(waiting))
        return waiting


class _Workers:
    """The actors of a job: a coordinator and its workers."""

    def __init__(
        self, job: PartsJob, executor: RayExecutor, units: list[Unit], files: Transport
    ) -> None:
        self.job, self.executor, self.units = job, executor, units
        self._files = files
        self._running: dict[Any, tuple[str, Any]] = {}
        self._started = 0
        self._losses_in_a_row = 0
        self._given_up: StageError | None = None

    def start(self) -> None:
        """Starts the coordinator and as many workers as the recipe asks for, or as fit."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._needs: Needs = replica_needs(self.job.gpus, self.executor.cpus_per_replica)
        room = room_for(self._needs)
        self._replicas = replicas = min(self.job.replicas or room, len(self.units))
        # Beside the driver, so that only what loses the driver loses it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        coordinator = ray.remote(Coordinator).options(
            num_cpus=0, max_concurrency=10_000, scheduling_strategy=here
        )
        self._coordinator = coordinator.remote(self.units, attempts=self.executor.attempts)
        self._worker_job = ray.put(
            WorkerJob(
                recipe=self.job.recipe.model_dump(mode="json"),
                open_maker=self.job.open_maker,
                files=self._files.workers_side(),
                directory=str(Path.cwd()),
            )
        )
        for _ in range(replicas):
            self._start_one()
        logger.info(
            "%s: %d replicas on Ray, each with %d GPUs and %d CPUs%s",
            *(self.job.name, replicas, self._needs.gpus, self._needs.cpus),
            f"; {room} fit now, the rest waits" if replicas > room else "",
        )

    def _start_one(self) -> None:
        import ray

        self._started += 1
        name = str(self._started)
        actor = ray.remote(Worker).options(
            num_cpus=self._needs.cpus, num_gpus=self._needs.gpus, scheduling_strategy="SPREAD"
        )
        handle = actor.remote(self._worker_job)
        self._running[handle.run.remote(name, self._coordinator)] = (name, handle)

    def stop(self) -> None:
        """Ends all actors, whatever they are doing."""
        import ray

        for _, handle in self._running.values():
            ray.kill(handle)
        if hasattr(self, "_coordinator"):
            ray.kill(self._coordinator)

    def delivered(self, expected: int) -> Iterator[PartPlace]:
        """Yields so many parts as they are delivered; meanwhile replaces workers that are lost.

        Raises:
            WRPOError: what a worker says the user can fix.
            StageError: a unit has lost too many workers, or workers die before they begin.
        """
        import ray

        seen = 0
        news = self._coordinator.news.remote(seen)
        while seen < expected:
            ready, _ = ray.wait([news, *self._running], timeout=_SILENCE_S)
            if news in ready:
                places = ray.get(news)
                yield from places
                seen += len(places)
                self._losses_in_a_row = 0
                news = self._coordinator.news.remote(seen)
            for reference in ready:
                if reference in self._running:
                    self._ended(reference)
            if self._given_up and not self._running:
                yield from ray.get(self._coordinator.so_far.remote(seen))
                raise self._given_up
            if not ready and not ray.get(self._coordinator.known.remote()):
                logger.warning(
                    "%s: no worker is ready yet: models are loading, or the cluster is in use",
                    self.job.name,
                )

    def _ended(self, reference: Any) -> None:
        """A worker that ends without an error has found the job finished."""
        import ray

        name, handle = self._running.pop(reference)
        try:
            ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            ray.kill(handle)
            if isinstance(error.cause, WRPOError):
                raise error.cause from None
            self._replace(name, str(error).strip())
        except ray.exceptions.RayActorError as error:
            ray.kill(handle)
            self._replace(name, " ".join(str(error).split()))

    def _replace(self, name: str, reason: str) -> None:
        import ray

        in_hand, deadly = ray.get(self._coordinator.lost.remote(name))
        logger.warning(
            "%s: lost a worker that had %s in hand: %s",
            *(self.job.name, ", ".join(map(_shown, in_hand)) or "nothing", reason[:_SHORT]),
        )
        self._losses_in_a_row += 1
        if self._losses_in_a_row >= self.executor.attempts * self._replicas:
            raise StageError(
                f"{self.job.name}: {self._losses_in_a_row} workers were lost one after another, "
                f"and none of them has made a part. The last one: {reason[-_LONG:]}"
            )
        if deadly is not None:
            self._given_up = StageError(
                f"{self.job.name}: {_shown(deadly)} has lost {self.executor.attempts} workers, the "
                "first of them perhaps by another part, the others by itself. The last one: "
                f"{reason[-_LONG:]}\nOther finished parts are kept. Fix the cause (a worker "
                "killed for memory: fewer engine.max_num_seqs; else the rows of this part), then "
                "run the same command again"
            )
        if self._given_up is None:
            self._start_one()


def _shown(unit: Unit) -> str:
    return " and ".join(f"part {place.part} of {place.stage}" for place in unit)

"""Replicas of one engine on one machine, which share the parts of a stage.

No part belongs to a replica beforehand: each claims the next one when its engine has room. What a
dead replica had claimed goes to the others.
"""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from data_construction.executors.process_worker import (
    Claim,
    ReplicaProgress,
    WorkerTask,
    run_replica,
)
from data_construction.sampling.part_sampler import PartSampler, ReportProgress
from wrpo.engines import EngineSettings
from wrpo.errors import ModelError, RecipeError, WRPOError
from wrpo.pipeline.parts import Shard, StageWork

logger = logging.getLogger(__name__)

_LOOK_AROUND_SECONDS = 1.0
_LEAVE_SECONDS = 30.0
_DEATHS_OF_A_PART = 2
_LOG_LINES = 15


@dataclass
class _Replica:
    number: int
    process: SpawnProcess
    connection: Connection
    log: Path
    claimed: set[int] = field(default_factory=set)
    waits: bool = False
    unwritten: int = 0  # responses reported and not yet written


class Replicas:
    """The processes that sample some parts of one stage.

    Args:
        sampler: the stage; its engine is not loaded here.
        work: what is to do.
        shard: whose parts these are; only for the names of the logs.

    Raises:
        RecipeError: the backend has no replicas here, or there are too few GPUs.
    """

    def __init__(self, sampler: PartSampler, work: StageWork, shard: Shard) -> None:
        engine = sampler.engine_settings
        if engine.server is not None:
            raise RecipeError(
                "engine.replicas is for engines in this process; the replicas of a served model "
                "are its servers: list them under engine.endpoints and leave replicas out"
            )
        count = min(engine.replicas or 1, len(work.todo))
        self._sampler = sampler
        self._writer = work.writer
        self._shard = shard
        self._devices = device_groups(count, engine)
        self._unclaimed = deque(work.todo)
        self._left = set(work.todo)
        self._deaths: Counter[int] = Counter()
        self._living: list[_Replica] = []

    def parts(self, progress: ReportProgress) -> Iterator[int]:
        """Starts the replicas and yields each part once it is written; ends them in any case.

        Raises:
            WRPOError: what a replica could not do, for example load the model.
            ModelError: all replicas died, or two on the same part.
        """
        try:
            self._living = [self._start(number) for number in range(len(self._devices))]
            while self._left:
                for replica in self._with_news():
                    yield from self._hear(replica, progress)
                for replica in [r for r in self._living if not r.process.is_alive()]:
                    yield from self._hear(replica, progress)
                    progress(-replica.unwritten, 0)
                    self._bury(replica)
        finally:
            self._end()

    def _start(self, number: int) -> _Replica:
        name = f"replica-{self._shard.lock_name}-{number + 1}.log"
        log = self._writer.path / name
        sampler = self._sampler
        work = WorkerTask(
            sampler.recipe,
            sampler.source,
            sampler.limit,
            sampler.inputs(),
            self._writer,
            self._devices[number],
            log,
        )
        context = get_context("spawn")
        mine, its = context.Pipe()
        process = context.Process(target=run_replica, args=(work, its), daemon=False)
        process.start()
        its.close()
        return _Replica(number + 1, process, mine, log)

    def _with_news(self) -> list[_Replica]:
        by_connection: dict[Any, _Replica] = {r.connection: r for r in self._living}
        return [by_connection[c] for c in wait(list(by_connection), _LOOK_AROUND_SECONDS)]

    def _hear(self, replica: _Replica, progress: ReportProgress) -> Iterator[int]:
        """All that a replica has sent; a broken connection is the death that follows."""
        with suppress(EOFError, OSError):
            while replica.connection.poll():
                message = replica.connection.recv()
                if isinstance(message, WRPOError):
                    raise message
                if isinstance(message, ReplicaProgress):
                    replica.unwritten += message.responses
                    progress(*message)
                elif isinstance(message, Claim):
                    self._response(replica, message)
                else:
                    replica.unwritten -= self._sampler.responses(message)
                    replica.claimed.discard(message)
                    self._left.discard(message)
                    yield message

    def _response(self, replica: _Replica, claim: Claim) -> None:
        if self._unclaimed:
            part = self._unclaimed.popleft()
            replica.claimed.add(part)
            replica.connection.send(part)
        elif claim.wait:
            replica.waits = True
        else:
            replica.connection.send(None)

    def _bury(self, replica: _Replica) -> None:
        """Hands the parts of a dead replica to the others.

        Raises:
            ModelError: no replica is left, or a part was there when two of them died.
        """
        self._living.remove(replica)
        self._kill(replica)
        lost = sorted(replica.claimed)
        what = (
            f"replica {replica.number} of {self._sampler.stage} died (exit code "
            f"{replica.process.exitcode}); the end of {replica.log}:\n{_tail(replica.log)}"
        )
        self._deaths.update(lost)
        twice = [part for part in lost if self._deaths[part] >= _DEATHS_OF_A_PART]
        if twice:
            raise ModelError(
                f"{what}\nIt is the second that died on part {twice[0]}. Finished parts are kept; "
                "fix what the log says (often memory: engine.gpu_memory_utilization, "
                "engine.max_num_seqs), then run the same command again"
            )
        if not self._living:
            raise ModelError(
                f"{what}\nNo replica is left. Finished parts are kept; fix what the log says, "
                "then run the same command again"
            )
        logger.warning("%s\nThe others do its parts: %s", what, lost or "it had none")
        self._unclaimed.extendleft(reversed(lost))
        for other in [r for r in self._living if r.waits]:
            if self._unclaimed:
                other.waits = False
                with suppress(OSError):
                    self._response(other, Claim(wait=True))

    def _end(self) -> None:
        """Lets replicas that have nothing left to do leave, and kills what stays."""
        for replica in self._living:
            if replica.waits:
                with suppress(OSError):
                    replica.connection.send(None)
        for replica in self._living:
            if not self._left:
                self._dismiss(replica)
            self._kill(replica)
            if replica.process.exitcode == 0:
                replica.log.unlink(missing_ok=True)

    def _dismiss(self, replica: _Replica) -> None:
        """Responses a claim that is on its way, and waits for the process to leave."""
        with suppress(EOFError, OSError):
            while replica.connection.poll(_LEAVE_SECONDS):
                if isinstance(replica.connection.recv(), Claim):
                    replica.connection.send(None)
        replica.process.join(_LEAVE_SECONDS)

    def _kill(self, replica: _Replica) -> None:
        assert replica.process.pid is not None
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(replica.process.pid, signal.SIGKILL)  # with what its engine has started
        if replica.process.is_alive():
            replica.process.kill()
        replica.process.join()
        replica.connection.close()


def device_groups(replicas: int, engine: EngineSettings) -> list[str | None]:
    """The value of CUDA_VISIBLE_DEVICES for each replica; None where there are no GPUs.

    Raises:
        RecipeError: fewer GPUs than the replicas need.
    """
    import torch

    visible = torch.cuda.device_count()
    if not visible:
        return [None] * replicas
    size = engine.capacity.gpus
    if replicas * size > visible:
        raise RecipeError(
            f"engine.replicas={replicas}, each with tensor_parallel_size x pipeline_parallel_size "
            f"= {size} GPUs, needs {replicas * size}; {visible} are visible here"
        )
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = named.split(",") if named else [str(number) for number in range(visible)]
    return [",".join(ids[at : at + size]) for at in range(0, replicas * size, size)]


def _tail(log: Path) -> str:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "(no log)"
    return "\n".join(text.splitlines()[-_LOG_LINES:])

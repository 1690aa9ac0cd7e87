"""One replica of an engine, in a process of its own: claims parts from its parent and samples them.

The parent is `data_construction.executors.processes`. Both ends speak over one connection; the
messages are the classes here, the number of each written part, and a `WRPOError` that ends it.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Iterator, Mapping
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from data_construction.sampling.part_sampler import PartSampler
from wrpo.cli import configure_logging
from wrpo.errors import WRPOError
from wrpo.pipeline.folder import PartWriter
from wrpo.processes import leave
from wrpo.recipe import Recipe


class Claim(NamedTuple):
    """Asks for a part number. Answered at once, by None where there is none for now; with `wait`,
    answered when there is one, by None when there will be none."""

    wait: bool


class ReplicaProgress(NamedTuple):
    """Progress since the last message of this kind."""

    responses: int
    tokens: int


class WorkerTask(NamedTuple):
    """What a replica needs to know.

    `inputs` are finished folders that the parent has checked. `devices` are the ids for
    CUDA_VISIBLE_DEVICES, joined by commas; None: whatever is there.
    """

    recipe: Recipe
    source: str
    limit: int | None
    inputs: Mapping[str, Path]
    writer: PartWriter
    devices: str | None
    log: Path


def run_replica(work: WorkerTask, parent: Connection) -> None:
    """The whole life of a replica process; ends the process."""
    os.setsid()  # so that the parent can end this process with all that the engine starts
    _write_to(work.log)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if work.devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = work.devices
    configure_logging()
    try:
        sampler = PartSampler(work.recipe, work.source, limit=work.limit, inputs=work.inputs)
        sampler.engine  # noqa: B018  loads the model before a part is claimed
        while (first := _claim(parent, wait=True)) is not None:
            for part in sampler.parts(
                _claims(parent, first), work.writer, lambda *new: parent.send(ReplicaProgress(*new))
            ):
                parent.send(part)
        sampler.close()
    except WRPOError as error:
        parent.send(error)
    except BaseException:
        traceback.print_exc()
        leave(1)
    leave(0)


def _claims(parent: Connection, first: int) -> Iterator[int]:
    part: int | None = first
    while part is not None:
        yield part
        part = _claim(parent, wait=False)


def _claim(parent: Connection, *, wait: bool) -> int | None:
    parent.send(Claim(wait))
    part: int | None = parent.recv()
    return part


def _write_to(log: Path) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)


def _end_with_parent() -> None:
    """A killed parent cannot say so; without it, this process and its own must not stay."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)

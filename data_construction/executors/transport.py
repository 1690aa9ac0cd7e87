"""How the files of a stage reach the workers and how their parts come back.

`OneDisk`: every machine sees the run directory. `ThroughShared`: the driver puts inputs into the
shared folder, workers fetch what they need and put finished parts there, and the driver brings them
home. Both have a driver's side and a worker's side; the worker's side is pickled to it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data_construction.executors.job import Folders, PartPlace, PartsJob
from data_construction.executors.shared_folder import SharedFolder
from wrpo.errors import StageError
from wrpo.ids import digest
from wrpo.pipeline.folder import MANIFEST, PartWriter, dropped_name, read_manifest
from wrpo.pipeline.stage import file_digest
from wrpo.pipeline.tables import part_name

Outputs = Mapping[str, PartWriter]


class WorkersSide(Protocol):
    """What a worker does with files."""

    def workplace(self) -> AbstractContextManager[tuple[Folders, Outputs]]:
        """Folders of the inputs, and what writes the parts of each stage."""

    def fetch(self, place: PartPlace) -> None:
        """Brings what this part alone needs."""

    def deliver(self, place: PartPlace) -> None:
        """Makes a part that was written reach the driver."""


class Transport(Protocol):
    """What the driver does with files."""

    def workers_side(self) -> WorkersSide: ...

    def waiting(self) -> set[PartPlace]:
        """Parts that an earlier driver did not live to bring home."""

    def bring_home(self, place: PartPlace) -> None:
        """Puts a delivered part into its stage folder."""


# ---- one disk -----------------------------------------------------------------------------------


class OneDisk:
    """Workers read and write the run directory themselves."""

    def __init__(self, job: PartsJob) -> None:
        self._job = job

    def workers_side(self) -> WorkersSide:
        inputs = {name: path.resolve() for name, path in self._job.inputs.items()}
        outputs = {
            stage: PartWriter(work.path.resolve(), work.writer.key)
            for stage, work in self._job.works.items()
        }
        return _SameDisk(inputs, outputs)

    def waiting(self) -> set[PartPlace]:
        return set()

    def bring_home(self, place: PartPlace) -> None:
        pass


@dataclass
class _SameDisk:
    inputs: Folders
    outputs: Outputs

    @contextmanager
    def workplace(self) -> Iterator[tuple[Folders, Outputs]]:
        for writer in self.outputs.values():
            manifest = read_manifest(writer.path)
            if manifest is None or manifest["key"] != writer.key:
                raise StageError(
                    f"a machine of the Ray cluster does not see {writer.path}: keep `runs` on a "
                    "disk that all machines mount at the same place, or set executor.shared"
                )
        yield self.inputs, self.outputs

    def fetch(self, place: PartPlace) -> None:
        pass

    def deliver(self, place: PartPlace) -> None:
        pass


# ---- a shared folder ----------------------------------------------------------------------------


class ThroughShared:
    """Inputs and parts travel through `executor.shared`.

    A folder there carries the digest of a manifest, so what is made again has a new place.
    """

    def __init__(self, job: PartsJob, url: str) -> None:
        self._job = job
        run = f"{url}/{job.recipe.run}"
        self._outputs = {
            stage: SharedFolder(f"{run}/{stage}/{_digest(work.path)}")
            for stage, work in job.works.items()
        }
        self._inputs = {
            name: SharedFolder(f"{run}/inputs/{name}/{_digest(path)}")
            for name, path in job.inputs.items()
        }

    def workers_side(self) -> WorkersSide:
        files = {name: _needed(path) for name, path in self._job.inputs.items()}
        for name, shared in self._inputs.items():
            _publish(self._job.inputs[name], files[name], shared)
        return _Fetched(
            inputs={name: (shared.url, files[name]) for name, shared in self._inputs.items()},
            outputs={
                stage: (shared.url, self._job.works[stage].writer.key)
                for stage, shared in self._outputs.items()
            },
            same_part=dict(self._job.same_part),
        )

    def waiting(self) -> set[PartPlace]:
        there = {stage: shared.names() for stage, shared in self._outputs.items()}
        places = [place for unit in self._job.units for place in unit]
        return {place for place in places if part_name(place.part) in there[place.stage]}

    def bring_home(self, place: PartPlace) -> None:
        shared, home = self._outputs[place.stage], self._job.works[place.stage].path
        dropped = dropped_name(place.part)
        if shared.has(dropped):
            shared.get(dropped, home / dropped)
        else:
            (home / dropped).unlink(missing_ok=True)
        shared.get(part_name(place.part), home / part_name(place.part))
        shared.remove(part_name(place.part))
        shared.remove(dropped)


@dataclass
class _Fetched:
    """A worker's side: a scratch folder of its own, and whole inputs once per machine.

    Attributes:
        outputs: where the parts of a stage go, and its key.
    """

    inputs: dict[str, tuple[str, list[str]]]
    outputs: dict[str, tuple[str, dict[str, Any]]]
    same_part: dict[str, str]
    scratch: Path = Path()

    @contextmanager
    def workplace(self) -> Iterator[tuple[Folders, Outputs]]:
        self.scratch = Path(tempfile.mkdtemp(prefix="wrpo-"))
        in_parts = set(self.same_part.values())
        try:
            inputs = {
                name: self.scratch / name if name in in_parts else _on_this_machine(url, files)
                for name, (url, files) in self.inputs.items()
            }
            outputs = {
                stage: PartWriter(self.scratch / stage, key)
                for stage, (_, key) in self.outputs.items()
            }
            for writer in outputs.values():
                writer.path.mkdir(parents=True)
            yield inputs, outputs
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def fetch(self, place: PartPlace) -> None:
        name = self.same_part.get(place.stage)
        if name is not None:
            file = part_name(place.part)
            SharedFolder(self.inputs[name][0]).get(file, self.scratch / name / file)

    def deliver(self, place: PartPlace) -> None:
        shared = SharedFolder(self.outputs[place.stage][0])
        part, dropped = part_name(place.part), dropped_name(place.part)
        written = self.scratch / place.stage
        if (written / dropped).exists():
            shared.put(written / dropped, dropped)
        else:
            shared.remove(dropped)
        # Last: its presence says that both are there.
        shared.put(written / part, part)
        (written / dropped).unlink(missing_ok=True)
        (written / part).unlink()
        if place.stage in self.same_part:
            (self.scratch / self.same_part[place.stage] / part).unlink(missing_ok=True)


def _digest(folder: Path) -> str:
    return file_digest(folder / MANIFEST)


def _needed(folder: Path) -> list[str]:
    """The files of a finished stage that a later one reads: parts, or the model."""
    files = sorted([*folder.glob("part-*.parquet"), *(folder / "model").rglob("*")])
    return [file.relative_to(folder).as_posix() for file in files if file.is_file()]


def _on_this_machine(url: str, files: list[str]) -> Path:
    """The whole input, downloaded by the first worker of a machine that needs it."""
    folder = Path(tempfile.gettempdir()) / f"wrpo-{os.getuid()}" / digest(url)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        for file in files:
            if not (folder / file).exists():
                SharedFolder(url).get(file, folder / file)
    return folder


def _publish(folder: Path, files: list[str], shared: SharedFolder) -> None:
    """Uploads what is not there yet."""
    there = shared.names()
    for file in files:
        if there.get(file) != (folder / file).stat().st_size:
            shared.put(folder / file, file)

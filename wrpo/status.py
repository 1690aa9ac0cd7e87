"""How far each stage of a run is, read from its folder only, so that it works while stages run."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wrpo.live_metrics import METRICS, Record, training_records
from wrpo.stage_folder import read_manifest
from wrpo.stages import Pipeline, State
from wrpo.tables import parts

RECENT = 20
"""Parts or logs that a rate is measured over."""
PAUSE = 10
"""A gap this many times the usual one is a stop of the stage; what lies before it says nothing."""

SHOWN = {
    "loss": "loss",
    "alpha": "alpha",
    "rewards/source_chosen": "source",
    "rewards/chosen": "target",
    "rewards/rejected": "rejected",
    "learning_rate": "lr",
}
"""Metrics of a training stage, by the names under which the view shows them."""


@dataclass(frozen=True)
class StageStatus:
    """One stage; what is not known, or does not apply, is None.

    Attributes:
        unit: what `done` and `total` count: parts or optimizer steps.
        rate: units per second lately.
        left_s: seconds until it is done, at this rate.
        quiet_s: seconds since it last wrote something.
        metrics: the last values of `SHOWN`.
    """

    name: str
    state: State
    unit: str = "parts"
    done: int | None = None
    total: int | None = None
    rows: int | None = None
    dropped: int | None = None
    seconds: float | None = None
    rate: float | None = None
    left_s: float | None = None
    quiet_s: float | None = None
    metrics: dict[str, float] | None = None


def run_status(pipeline: Pipeline) -> list[StageStatus]:
    """Every stage of the run, in order."""
    return [stage_status(pipeline, name) for name in pipeline.stages]


def stage_status(pipeline: Pipeline, name: str) -> StageStatus:
    """One stage."""
    folder, state = pipeline.folder(name), pipeline.state(name)
    manifest = read_manifest(folder) or {}
    logs = training_records(folder / METRICS)
    if manifest.get("complete"):
        return _finished(name, state, manifest, logs)
    if state == "partial" and logs:
        return _training(name, state, logs)
    if state == "partial":
        return _writing_parts(name, state, folder, manifest)
    return StageStatus(name, state)


def _finished(name: str, state: State, manifest: dict[str, Any], logs: list[Record]) -> StageStatus:
    steps, count = manifest.get("steps"), manifest.get("parts")
    return StageStatus(
        name,
        state,
        unit="steps" if steps is not None else "parts",
        done=steps if steps is not None else count,
        total=steps if steps is not None else count,
        rows=manifest.get("rows"),
        dropped=manifest.get("dropped"),
        seconds=manifest.get("seconds"),
        metrics=_shown(logs[-1]) if logs else None,
    )


def _training(name: str, state: State, logs: list[Record]) -> StageStatus:
    last = logs[-1]
    recent = _since_pause([(record["time"], record["step"]) for record in logs])
    return StageStatus(
        name,
        state,
        unit="steps",
        done=last["step"],
        total=last["max_steps"],
        metrics=_shown(last),
        **_speed(recent, last["step"], last["max_steps"]),
    )


def _writing_parts(name: str, state: State, folder: Path, manifest: dict[str, Any]) -> StageStatus:
    files = parts(folder)
    total = manifest.get("parts")
    written = sorted(time_ for file in files if (time_ := _written(file)) is not None)
    recent = _since_pause([(time_, count + 1) for count, time_ in enumerate(written)])
    return StageStatus(
        name,
        state,
        done=len(files),
        total=total,
        rows=sum(_rows(file) for file in files),
        dropped=sum(_rows(file) for file in folder.glob("dropped-*.parquet")),
        **_speed(recent, len(files), total),
    )


def _since_pause(points: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """The recent (time, count) points after the last long gap or step back."""
    points = points[-RECENT:]
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(points)]
    if not gaps:
        return points
    longest = max(PAUSE * statistics.median(gaps), 1.0)
    starts = [place + 1 for place, gap in enumerate(gaps) if gap > longest]
    return points[starts[-1] :] if starts else points


def _speed(points: list[tuple[float, int]], done: int, total: int | None) -> dict[str, Any]:
    if not points:
        return {}
    (begin, first), (end, last) = points[0], points[-1]
    quiet = max(0.0, time.time() - end)
    if last <= first or end <= begin:
        return {"quiet_s": quiet}
    rate = (last - first) / (end - begin)
    left = None if total is None else max(0.0, (total - done) / rate - quiet)
    return {"quiet_s": quiet, "rate": rate, "left_s": left}


def _shown(record: Record) -> dict[str, float]:
    return {shown: record[name] for name, shown in SHOWN.items() if name in record}


def _written(path: Path) -> float | None:
    """When the file got its name; None when it has gone meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _rows(path: Path) -> int:
    try:
        return _rows_of(path, path.stat().st_mtime_ns)
    except (OSError, pa.ArrowException):
        return 0


@cache
def _rows_of(path: Path, version: int) -> int:
    """Rows of a file as it was written at `version`; a live view asks again and again."""
    return int(pq.read_metadata(path).num_rows)

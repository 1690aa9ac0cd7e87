"""How far each stage of a run is, read from its folder only, so that it works while stages run."""

from __future__ import annotations

import json
import math
import shutil
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wrpo.display.characters import visible
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.metrics_file import METRICS, MetricsRecord, broken_loss, training_records
from wrpo.pipeline.pipeline import Pipeline, State
from wrpo.pipeline.tables import parts

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
        problem: what its log says is wrong.
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
    problem: str | None = None


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


def _finished(
    name: str, state: State, manifest: dict[str, Any], logs: list[MetricsRecord]
) -> StageStatus:
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
        problem=_problem(logs),
    )


def _training(name: str, state: State, logs: list[MetricsRecord]) -> StageStatus:
    last = logs[-1]
    recent = _since_pause([(record["time"], record["step"]) for record in logs])
    return StageStatus(
        name,
        state,
        unit="steps",
        done=last["step"],
        total=last["max_steps"],
        metrics=_shown(last),
        problem=_problem(logs),
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


def _shown(record: MetricsRecord) -> dict[str, float]:
    return {shown: record[name] for name, shown in SHOWN.items() if name in record}


def _problem(logs: list[MetricsRecord]) -> str | None:
    broken = broken_loss(logs)
    return f"NOT TRAINED: the loss of step {broken[0]} is {broken[1]}" if broken else None


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


BAR = 16
_NEW_SCREEN = "\x1b[H\x1b[J"
"""Cursor to the corner, then clear what is below: less flicker than clearing first."""
_COLOURS = {"done": "32", "partial": "33", "stale": "31", "missing": "2"}


def status_json(stages: list[StageStatus]) -> str:
    """A JSON list with one object per stage; unknown values are null."""
    found = _finite([asdict(stage) for stage in stages])
    return json.dumps(found, indent=1, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """NaN and infinity, which JSON cannot say, as null."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def status_text(run: str, stages: list[StageStatus]) -> list[str]:
    """A heading and one line per stage."""
    done = sum(stage.state == "done" for stage in stages)
    width = max(len(stage.name) for stage in stages)
    head = f"{'state':8} {'stage':{width}} {'':{BAR}} {'done':>13} {'rows':>9} {'dropped':>8}"
    lines = [f"run {run}: {done} of {len(stages)} stages done", "", f"{head}  time"]
    return lines + [_line(stage, width) for stage in stages]


def watch(pipeline: Pipeline, *, every_s: float) -> None:
    """Refreshes the status until every stage is done or the user stops it."""
    try:
        while True:
            stages = run_status(pipeline)
            _draw(status_text(pipeline.recipe.run, stages))
            if all(stage.state == "done" for stage in stages):
                return
            time.sleep(every_s)
    except KeyboardInterrupt:
        sys.stdout.write("\n")


def _draw(lines: list[str]) -> None:
    if sys.stdout.isatty():
        columns, rows = shutil.get_terminal_size()
        if len(lines) >= rows:  # the end of the pipeline scrolls away last; keep what is in work
            lines = [line for line in lines if not line.startswith("missing")][: rows - 1]
        lines = [_coloured(line[: columns - 1]) for line in lines]
        sys.stdout.write(_NEW_SCREEN)
    sys.stdout.write(visible("\n".join(lines)) + "\n")
    sys.stdout.flush()


def _coloured(line: str) -> str:
    state = line.split(" ", 1)[0]
    return (
        f"\x1b[{_COLOURS[state]}m{state}\x1b[0m{line[len(state) :]}" if state in _COLOURS else line
    )


def _line(stage: StageStatus, width: int) -> str:
    cells = [
        f"{stage.state:8} {stage.name:{width}} {_bar(stage):{BAR}} {_count(stage):>13}",
        f"{_number(stage.rows):>9} {_number(stage.dropped):>8} ",
        ", ".join([*_times(stage), *_metrics(stage), *filter(None, [stage.problem])]),
    ]
    return " ".join(cells).rstrip()


def _bar(stage: StageStatus) -> str:
    if stage.done is None or not stage.total:
        return ""
    full = round(BAR * min(1.0, stage.done / stage.total))
    return "█" * full + "░" * (BAR - full)


def _count(stage: StageStatus) -> str:
    if stage.done is None:
        return "-"
    total = "?" if stage.total is None else f"{stage.total:,}"
    return f"{stage.done:,}/{total} {stage.unit}"


def _times(stage: StageStatus) -> list[str]:
    if stage.seconds is not None:
        return [f"took {duration(stage.seconds)}"]
    texts = []
    if stage.rate is not None:
        per_minute = 60 * stage.rate
        texts.append(f"{per_minute:,.3g} {stage.unit}/min")
    if stage.left_s is not None:
        texts.append(f"{duration(stage.left_s)} left")
    if stage.quiet_s is not None and stage.quiet_s > _patience(stage):
        texts.append(f"nothing written for {duration(stage.quiet_s)}")
    return texts


def _patience(stage: StageStatus) -> float:
    """Seconds without a new part or log that need no mention."""
    return max(120.0, 3.0 / stage.rate) if stage.rate else 120.0


def _metrics(stage: StageStatus) -> list[str]:
    return [f"{name} {value:.4g}" for name, value in (stage.metrics or {}).items()]


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def duration(seconds: float) -> str:
    """Two units at most: 45 s, 12 min, 3 h 20 min, 2 d 5 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"

"""The status of a run as text, once or again and again in the terminal."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from dataclasses import asdict
from typing import Any

from wrpo.stages import Pipeline
from wrpo.status import StageStatus, run_status

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
    """Draws the status anew until every stage is done or the user stops it."""
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
    sys.stdout.write("\n".join(lines) + "\n")
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
        ", ".join([*_times(stage), *_metrics(stage)]),
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

"""What a training stage logs while it runs, one JSON line per log: RUN/ARM/metrics.jsonl.

A resumed run goes back to its checkpoint and logs some steps again, so a line takes back every line
before it that is of the same step or a later one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

LOG_HISTORY = "log_history.json"
METRICS = "metrics.jsonl"

MetricsRecord = dict[str, Any]


def append_metrics(path: Path, *, step: int, max_steps: int, logs: MetricsRecord) -> None:
    """Adds one line; a line that a killed process left unfinished is closed first."""
    record = {"step": step, "max_steps": max_steps, "time": round(time.time(), 3), **logs}
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(json.dumps(record, default=float).encode() + b"\n")


def read_metrics(path: Path) -> list[MetricsRecord]:
    """One record per step and kind of log, in order of steps; [] where nothing was logged.

    Kinds are losses of training, evaluations, and the summary at the end. Lines that are not whole
    are left out.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    kept: list[MetricsRecord] = []
    for line in lines:
        record = _record(line)
        if record is None:
            continue
        while kept and _replaces(record, kept[-1]):
            kept.pop()
        kept.append(record)
    return kept


def training_records(path: Path) -> list[MetricsRecord]:
    """Those with the loss of training steps."""
    return [record for record in read_metrics(path) if "loss" in record]


def broken_loss(records: Iterable[Mapping[str, Any]]) -> tuple[int, float] | None:
    """Step and loss of the first record whose loss is no finite number; None where all are."""
    losses = ((record.get("step"), record.get("loss")) for record in records)
    broken = (
        (step, loss)
        for step, loss in losses
        if isinstance(step, int) and isinstance(loss, float) and not math.isfinite(loss)
    )
    return next(broken, None)


def _record(line: str) -> MetricsRecord | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(record, dict) and isinstance(record.get("step"), int)
    return record if whole else None


def _replaces(new: MetricsRecord, old: MetricsRecord) -> bool:
    """Whether the run went back behind `old` before it logged `new`."""
    if new["step"] != old["step"]:
        return bool(new["step"] < old["step"])
    return "loss" in new or _kind(new) == _kind(old)


def _kind(record: MetricsRecord) -> str:
    if "loss" in record:
        return "loss"
    return "summary" if "train_runtime" in record else "evaluation"

"""Speeds and prices: the shipped table, which the user edits, and what sampling has measured.

Measured rows are in RUNS/throughput.yaml, one per model, kind of GPU and number of GPUs.
"""

from __future__ import annotations

import fcntl
import math
import re
import subprocess
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from wrpo.errors import RecipeError
from wrpo.files import is_file, replacing
from wrpo.recipe.shipped import FOLDER, shipped_folder
from wrpo.recipe.yaml_source import dump_yaml, read_yaml
from wrpo.settings import Section, Share

FILE = "throughput.yaml"
CPU = "cpu"


class GPU(Section):
    """One kind of GPU."""

    source: str = Field(description="Where the numbers are from, such as `estimate`.")
    price_per_hour: float = Field(ge=0.0)
    memory_gib: float = Field(gt=0.0)
    peak_tflops: float = Field(gt=0.0)
    bandwidth_tb_s: float = Field(gt=0.0)
    prefill_utilization: Share
    training_utilization: Share
    training_error: float | None = Field(None, ge=0.0, lt=1.0)
    micro_batch_ms_per_layer: float = Field(0.0, ge=0.0)
    decode_tokens_per_s: dict[float, float] = Field(min_length=1)


class Lengths(Section):
    """Expected lengths, until a run has its own."""

    source: str
    prompt_tokens: float = Field(gt=0.0)
    response_tokens: float = Field(gt=0.0)
    characters_per_token: float = Field(gt=0.0)
    judge_prompt_tokens: float = Field(300.0, ge=0.0)
    judge_reply_tokens: float = Field(300.0, gt=0.0)


class Hosted(Section):
    """Dollars per million tokens of a hosted model."""

    input: float = Field(ge=0.0)
    output: float = Field(ge=0.0)


class ThroughputTable(Section):
    """The file recipes/throughput.yaml."""

    gpu: str
    gpus: dict[str, GPU] = Field(min_length=1)
    lengths: Lengths
    hosted: dict[str, Hosted] = Field(default_factory=dict)
    questions: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)

    def kind_of(self, device: str) -> str | None:
        """The kind whose words are all in the name of a device."""
        words = set(re.findall(r"[a-z0-9]+", device.lower()))
        fitting = [kind for kind in self.gpus if set(kind.split()) <= words]
        return max(fitting, key=len, default=None)


_RENAMED = {"answers": "responses", "answer_tokens": "response_tokens"}
"""Keys of files made by older versions, and what they are called now."""


class Measured(Section):
    """What sampling one model on one kind of machine has come to; sums over all runs.

    `gpu` is the name of the device, or "cpu".
    """

    model: str
    gpu: str
    gpus: int = Field(ge=1)
    prompts: int = Field(ge=0)
    prompt_tokens: int = Field(ge=0)
    responses: int = Field(ge=0)
    response_tokens: int = Field(ge=0)
    seconds: float = Field(gt=0.0)
    updated: str = ""

    @property
    def decode_tokens_per_s(self) -> float:
        """Response tokens per second and GPU, the reading of prompts included."""
        return self.response_tokens / self.seconds / self.gpus

    @property
    def place(self) -> tuple[str, str, int]:
        """What tells rows apart."""
        return self.model, self.gpu, self.gpus


class _MeasuredFile(Section):
    measured: list[Measured] = Field(default_factory=list)


DeviceKind = TypeVar("DeviceKind", ThroughputTable, _MeasuredFile)


def find_table(recipe: Path, *, runs: Path) -> Path | None:
    """throughput.yaml beside the recipe or above it, else in recipes/, else the shipped one.

    The one in the folder of runs is no such table: it holds what was measured.
    """
    folders = [*recipe.resolve().parents, FOLDER, shipped_folder()]
    tables = [folder / FILE for folder in folders if folder.resolve() != runs.resolve()]
    return next((table for table in tables if is_file(table)), None)


def read_throughput(path: Path) -> ThroughputTable:
    """Reads and checks the table.

    Raises:
        RecipeError: it is not there or says something wrong; names file, line and field.
    """
    table = _read(path, ThroughputTable)
    if table.gpu not in table.gpus:
        raise RecipeError(f"{path}: gpu: no kind {table.gpu}; known: {', '.join(table.gpus)}")
    return table


def read_measured(runs: Path) -> list[Measured]:
    """What sampling has measured in the runs of this folder."""
    path = runs / FILE
    return _read(path, _MeasuredFile).measured if path.is_file() else []


def record(runs: Path, row: Measured) -> None:
    """Adds a measurement to the sums of its model and machine; samplers may do so at once."""
    runs.mkdir(parents=True, exist_ok=True)
    with (runs / f".{FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = {known.place: known for known in read_measured(runs)}
        rows[row.place] = _sum(rows.get(row.place), row)
        with replacing(runs / FILE) as partial:
            content = {"measured": [known.model_dump() for known in rows.values()]}
            partial.write_text(dump_yaml(content), encoding="utf-8")


def decode_speed(gpu: GPU, billions: float) -> float:
    """Response tokens per second and GPU of a model, from the sizes in the table.

    Between two sizes a straight line in logarithms; outside them, inversely proportional.
    """
    sizes = sorted(gpu.decode_tokens_per_s)
    speeds = [gpu.decode_tokens_per_s[size] for size in sizes]
    if billions <= sizes[0]:
        return speeds[0] * sizes[0] / billions
    if billions >= sizes[-1]:
        return speeds[-1] * sizes[-1] / billions
    above = next(place for place, size in enumerate(sizes) if size >= billions)
    low, high = math.log(sizes[above - 1]), math.log(sizes[above])
    share = (math.log(billions) - low) / (high - low)
    logs = math.log(speeds[above - 1]), math.log(speeds[above])
    return math.exp(logs[0] + share * (logs[1] - logs[0]))


@cache
def devices() -> tuple[str, ...]:
    """Names of the GPUs of this machine, as nvidia-smi has them; none where it is missing."""
    query: list[str] = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in found.stdout.splitlines() if line.strip())


def device() -> str:
    """Name of this machine's first GPU; "cpu" where there is none."""
    return devices()[0] if devices() else CPU


def _sum(known: Measured | None, row: Measured) -> Measured:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    counts = ("prompts", "prompt_tokens", "responses", "response_tokens", "seconds")
    sums = {name: getattr(row, name) + (getattr(known, name) if known else 0) for name in counts}
    sums["seconds"] = round(sums["seconds"], 3)
    return row.model_copy(update={**sums, "updated": now})


def _read(path: Path, kind: type[DeviceKind]) -> DeviceKind:
    located = read_yaml(path)
    try:
        return kind.model_validate(located.value)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            steps = tuple(str(step) for step in item["loc"])
            new = _RENAMED.get(steps[-1]) if item["type"] == "extra_forbidden" else None
            problem = f'unknown key; its name is now "{new}"' if new else item["msg"]
            lines.append(f"{located.place(steps)}: {'.'.join(steps)}: {problem}")
        raise RecipeError("\n".join(lines)) from None

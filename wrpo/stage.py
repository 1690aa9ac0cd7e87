"""One stage of the pipeline, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

SPEED_FIELDS = {"engine"}
"""Fields of every section that decide how fast it runs, and nothing else."""


@dataclass(frozen=True)
class Stage:
    """One command of the pipeline.

    Attributes:
        name: e.g. "sample/qwen72b"; also the folder below the run directory.
        command: module and flags, without recipe and overrides.
        inputs: names of the stages it reads.
        settings: the recipe fields that decide its result.
    """

    name: str
    command: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

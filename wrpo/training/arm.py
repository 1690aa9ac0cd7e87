"""What an objective gets to train one arm: where it starts, its rows, and where it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from wrpo.objectives.base import ObjectiveSettings
from wrpo.pipeline.parts import StageWork
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import Row
from wrpo.recipe import Recipe


@dataclass(frozen=True)
class Arm:
    """One arm that is to be trained.

    Attributes:
        name: in the run.
        rows: all of its table.
        inputs: folders of the stages that it reads, by name.
        work: its open stage.
    """

    pipeline: Pipeline
    name: str
    rows: list[Row]
    inputs: Mapping[str, Path]
    work: StageWork

    @property
    def recipe(self) -> Recipe:
        return self.pipeline.recipe

    @property
    def start(self) -> str:
        """The model that training starts from."""
        return str(self.inputs["sft"] / "model")

    @property
    def where(self) -> str:
        """The key of the recipe that errors of TRL name."""
        return f"{self.work.path.name}.train"


def trainer_of(settings: ObjectiveSettings) -> Callable[[Any, Arm], None]:
    """The function that trains with an objective, which it names by `trained_by`."""
    found: Callable[[Any, Arm], None] = resolve_name(settings.trained_by)
    return found

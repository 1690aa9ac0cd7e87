"""How a dialogue model is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wrpo.errors import RecipeError

Method = Literal["maker", "mk-tod"]
Control = Literal["none", "shuffled", "uniform"]


@dataclass(frozen=True)
class RetrievalTraining:
    """Steps, learning rates, and what the entity selector learns from.

    Attributes:
        steps, batch: each step sees `batch` exchanges.
        generator_rate, selector_rate: learning rates, which fall linearly to zero.
        warm_up: steps before these in which the entity selector alone learns to find the record of
            which most values are in the response, among those of its batch.
        selectors_from: the step from which the entity selector learns from the generator.
        refresh: steps after which records are encoded again to find the best ones.
        control: what the entity selector learns from instead of the generator's own signal: that of
            other records of the exchange, or the same for all.

    Raises:
        RecipeError: a number is out of its range.
    """

    steps: int = 1500
    batch: int = 8
    generator_rate: float = 1e-4
    selector_rate: float = 1e-4
    warm_up: int = 0
    selectors_from: int = 0
    refresh: int = 100
    control: Control = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "refresh": 1, "warm_up": 0, "selectors_from": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                flag = name.replace("_", "-")
                raise RecipeError(f"--{flag} is {getattr(self, name)}; give {value} or more")

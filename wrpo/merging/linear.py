"""Linear merging: a weighted mean of the models (model soups, arXiv 2203.05482)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from wrpo.merging.base import WeightedMerge

if TYPE_CHECKING:
    from torch import Tensor


class Linear(WeightedMerge):
    """theta = sum_j w_j theta_j / sum_j w_j; the base is not read."""

    label: ClassVar[str] = "linear"

    method: Literal["linear"] = "linear"

    @model_validator(mode="after")
    def _has_a_mean(self) -> Self:
        if abs(sum(self.factors)) < 1e-9:
            raise ValueError("weights add up to 0, so that there is no mean")
        return self

    def merge(self, base: Tensor, models: Sequence[Tensor]) -> Tensor:
        total = sum(self.factors)
        merged = models[0] * (self.factors[0] / total)
        for weight, model in zip(self.factors[1:], models[1:], strict=True):
            merged = merged + model * (weight / total)
        return merged

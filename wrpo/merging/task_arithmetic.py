"""Task arithmetic: the differences from the base, scaled and added (arXiv 2212.04089)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from wrpo.merging.base import WeightedMerge

if TYPE_CHECKING:
    from torch import Tensor


class TaskArithmetic(WeightedMerge):
    """theta = theta_v + sum_j w_j (theta_j - theta_v); w_j is 0.3, as FuseChat's release has it."""

    label: ClassVar[str] = "task arithmetic"
    weight: ClassVar[float | None] = 0.3

    method: Literal["task_arithmetic"] = "task_arithmetic"

    def merge(self, base: Tensor, models: Sequence[Tensor]) -> Tensor:
        merged = base
        for weight, model in zip(self.factors, models, strict=True):
            merged = merged + weight * (model - base)
        return merged

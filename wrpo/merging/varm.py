"""VaRM of FuseChat-1.0 (arXiv 2402.16107): models weigh by how far each of their matrices moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from wrpo.merging.base import MergeSettings
from wrpo.merging.shared.deltas import model_differences, shares

if TYPE_CHECKING:
    from torch import Tensor


class VaRM(MergeSettings):
    """theta = sum_j w_j theta_j, w_j = mean(delta_j^2) / sum_i mean(delta_i^2), per matrix.

    This is the equation. The published commands compare the two targets with each other instead of
    each with the pivot, so that their weights are equal.
    """

    label: ClassVar[str] = "VaRM"

    method: Literal["varm"] = "varm"

    def merge(self, base: Tensor, models: Sequence[Tensor]) -> Tensor:
        weights = shares(model_differences(base, models)).to(base.dtype)
        merged = models[0] * weights[0]
        for weight, model in zip(weights[1:], models[1:], strict=True):
            merged = merged + weight * model
        return merged

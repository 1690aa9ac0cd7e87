"""TIES: trims small differences, and merges one sign of each weight (arXiv 2306.01708)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from wrpo.merging.base import WeightedMerge
from wrpo.merging.shared.deltas import agreeing, model_differences
from wrpo.settings import Share

if TYPE_CHECKING:
    from torch import Tensor


class Ties(WeightedMerge):
    """theta = theta_v + sum_j w_j d_j / sum_j w_j over the models whose trimmed d_j has the sign of
    sum_j w_j d_j."""

    label: ClassVar[str] = "TIES"

    method: Literal["ties"] = "ties"
    density: Share = Field(
        0.6, description="Share of each difference that is kept, the largest entries."
    )
    normalize: bool = Field(True, description="Divide by the weights that are left at an entry.")

    def merge(self, base: Tensor, models: Sequence[Tensor]) -> Tensor:
        import torch

        deltas = model_differences(base, models)
        kept = torch.stack([trimmed(delta, self.density) for delta in deltas])
        weights = kept.new_tensor(self.factors).view(-1, *[1] * base.dim())
        weighted = kept * weights
        agree = agreeing(weighted)
        merged = (weighted * agree).sum(dim=0)
        if self.normalize:
            divisor = (weights * agree).sum(dim=0)
            merged = merged / torch.where(divisor == 0, 1, divisor)
        return base + merged


def trimmed(delta: Tensor, density: float) -> Tensor:
    """The `density` share of entries with the largest magnitude, at least one; the others are 0."""
    import torch

    if density >= 1 or delta.numel() == 0:
        return delta
    if density <= 0:
        return torch.zeros_like(delta)
    count = max(1, int(density * delta.numel()))
    flat = delta.reshape(-1)
    largest = flat.abs().argsort(descending=True, stable=True)[:count]
    kept = torch.zeros_like(flat)
    kept[largest] = flat[largest]
    return kept.view_as(delta)

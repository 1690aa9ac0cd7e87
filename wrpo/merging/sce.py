"""SCE of FuseChat-2.0: selects by variance, erases minority signs (arXiv 2408.07990).

Per matrix, with delta_j = theta_j - theta_v:

    Select     the `density` share of entries whose delta varies most over the models; others are 0
    Calculate  eta_j = sum(d_j^2) / sum_i sum(d_i^2)
    Erase      d'_j = d_j where it has the sign of sum_j d_j, else 0
    theta      = theta_v + sum_j eta_j d'_j, divided by the eta_j that are left at an entry
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from wrpo.merging.base import MergeSettings
from wrpo.merging.shared.deltas import agreeing, model_differences, shares
from wrpo.settings import Share

if TYPE_CHECKING:
    from torch import Tensor


class SCE(MergeSettings):
    """theta = theta_v + sum_j eta_j d'_j / sum_j eta_j, over the d'_j that are selected and not
    erased."""

    label: ClassVar[str] = "SCE"

    method: Literal["sce"] = "sce"
    density: Share = Field(0.1, description="Share of the varying entries that is merged (tau).")
    renormalize: bool = Field(
        True,
        description="Divide by the weights that are left at an entry, as the public code does; "
        "false: the equation as it is printed.",
    )

    def merge(self, base: Tensor, models: Sequence[Tensor]) -> Tensor:
        import torch

        deltas = model_differences(base, models)
        deltas = deltas * most_varying(deltas, self.density)
        weights = shares(deltas).to(deltas.dtype).view(-1, *[1] * base.dim())
        left = weights * agreeing(deltas)
        merged = (deltas * left).sum(dim=0)
        if self.renormalize:
            divisor = left.sum(dim=0)
            merged = merged / torch.where(divisor == 0, 1, divisor)
        return base + merged


def most_varying(deltas: Tensor, density: float) -> Tensor:
    """Whether an entry is selected, (*shape): int(density * entries that vary at all) of them.

    With density 1 all are, those included that no two models differ in.
    """
    import torch

    if density >= 1:
        return torch.ones_like(deltas[0], dtype=torch.bool)
    variance = deltas.var(dim=0, unbiased=False)
    count = int(torch.count_nonzero(variance) * density)
    selected = torch.zeros(variance.numel(), dtype=torch.bool, device=deltas.device)
    selected[variance.reshape(-1).argsort(descending=True, stable=True)[:count]] = True
    return selected.view_as(variance)

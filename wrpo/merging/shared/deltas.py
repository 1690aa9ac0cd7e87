"""Differences of models from their base, as one tensor (models, *shape), and what is kept of
them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def model_differences(base: Tensor, models: Sequence[Tensor]) -> Tensor:
    """delta_j = theta_j - theta_v, (J, *shape)."""
    import torch

    return torch.stack([model - base for model in models])


def shares(deltas: Tensor) -> Tensor:
    """sum(delta_j^2) / sum_i sum(delta_i^2), (J,) in float64; equal where no model differs.

    Nothing is compared with an absolute number, so that small differences weigh as large ones do.
    """
    import torch

    # Scaled first, as squares of small numbers would be 0.
    largest = deltas.abs().max() if deltas.numel() else deltas.new_zeros(())
    if largest == 0:
        count = deltas.shape[0]
        return torch.full((count,), 1 / count, dtype=torch.float64, device=deltas.device)
    squares = torch.stack([(delta / largest).double().square().sum() for delta in deltas])
    return squares / squares.sum()


def agreeing(deltas: Tensor) -> Tensor:
    """Where a difference has the sign of the sum over models, (J, *shape); a sum of 0 is positive,
    and a difference of 0 agrees with nothing."""
    positive = deltas.sum(dim=0) >= 0
    return (deltas > 0) & positive | (deltas < 0) & ~positive

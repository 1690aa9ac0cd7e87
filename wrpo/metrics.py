"""Training and evaluation metrics as sums and weights, so that unequal batches average right."""

from collections.abc import Mapping

import torch
from torch import Tensor


class MetricSums:
    """Weighted means of named quantities, accumulated on the device without a host sync."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, sums: Mapping[str, Tensor]) -> None:
        """Add (weighted sum, weight) of each quantity, each of shape (2,)."""
        for name, pair in sums.items():
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def pop_means(self) -> dict[str, float]:
        """Mean of every quantity since the last call; forgets them."""
        if not self._sums:
            return {}
        pairs = torch.stack(list(self._sums.values())).tolist()
        means = {n: s / w for n, (s, w) in zip(self._sums, pairs, strict=True) if w > 0}
        self._sums = {}
        return means


def response_metrics(
    logps: Mapping[str, Tensor], lengths: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Summed log-probability and token count of each forwarded response, each (n,)."""
    metrics = {f"logps/{name}": values for name, values in logps.items()}
    return metrics | {f"lengths/{name}": values for name, values in lengths.items()}


def weigh(values: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """(value * weight, weight) of each quantity and example, shape (n, quantities, 2), float32.

    The weight is 1 for a quantity that `weights` does not name.
    """
    columns = []
    for name, value in values.items():
        value = value.detach().float()
        weight = weights[name].float() if name in weights else torch.ones_like(value)
        columns.append(torch.stack([value * weight, weight], dim=-1))
    return torch.stack(columns, dim=1)

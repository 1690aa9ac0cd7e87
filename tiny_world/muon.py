"""Muon, an optimizer for matrices: momentum whose singular values are all set to about one.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). `torch.optim.Muon`
orthogonalises in bfloat16, ten times slower than float32 on processors without bfloat16 units, and
one matrix at a time; this one works in float32 on all matrices of a shape at once.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration of Muon


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; for parameters with two dimensions."""

    def __init__(self, params: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, lr=group["lr"], momentum=group["momentum"])

    def _update(self, parameters: list[nn.Parameter], *, lr: float, momentum: float) -> None:
        directions = []
        for parameter in parameters:
            gradient = parameter.grad
            assert gradient is not None
            average = self.state[parameter].setdefault("average", torch.zeros_like(parameter))
            average.lerp_(gradient, 1 - momentum)
            directions.append(gradient.lerp(average, momentum))
        rows, columns = parameters[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        for parameter, update in zip(
            parameters, orthogonalise(torch.stack(directions)), strict=True
        ):
            parameter.sub_(update, alpha=lr * scale)


def orthogonalise(matrices: Tensor, *, steps: int = 5) -> Tensor:
    """Move the singular values of a stack of matrices (n, rows, columns) to about one."""
    a, b, c = COEFFICIENTS
    is_tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if is_tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if is_tall else x

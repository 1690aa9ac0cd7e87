"""The optimizer for matrices."""

import torch

from tiny_world.muon import Muon, orthogonalise


def test_singular_values_become_about_one() -> None:
    for shape in ((3, 8, 20), (3, 20, 8)):
        matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(orthogonalise(matrices))
        assert values.min() > 0.5
        assert values.max() < 1.5


def test_it_minimises_a_quadratic() -> None:
    torch.manual_seed(0)
    weight, goal = torch.nn.Parameter(torch.zeros(6, 4)), torch.randn(6, 4)
    optimizer = Muon([weight], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        (weight - goal).square().sum().backward()
        optimizer.step()
    assert (weight - goal).abs().max() < 0.1

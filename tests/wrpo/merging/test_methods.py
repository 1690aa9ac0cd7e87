"""Every method against closed forms in float64, and against mergekit where it is installed."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from wrpo.merging.base import MergeSettings
from wrpo.merging.linear import Linear
from wrpo.merging.sce import SCE, most_varying
from wrpo.merging.shared.deltas import agreeing, shares
from wrpo.merging.task_arithmetic import TaskArithmetic
from wrpo.merging.ties import Ties, trimmed
from wrpo.merging.varm import VaRM


def named(count: int) -> list[str]:
    return [f"model-{number}" for number in range(count)]


def matrices(count: int, *, seed: int = 0, scale: float = 0.1) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    made = [torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(count + 1)]
    return made[0], [made[0] + scale * one for one in made[1:]]


def every_method(count: int, **sce: Any) -> list[MergeSettings]:
    names = named(count)
    return [
        Linear(models=names),
        TaskArithmetic(models=names, weights=[1 / count] * count),
        Ties(models=names, density=1.0),
        SCE(models=names, density=1.0, **sce),
        VaRM(models=names),
    ]


@pytest.mark.parametrize("settings", every_method(2), ids=lambda one: one.method)
def test_identical_models_are_merged_into_themselves(settings: MergeSettings) -> None:
    base, (model,) = matrices(1)
    torch.testing.assert_close(settings.merge(base, [model, model]), model, rtol=0, atol=1e-15)


@pytest.mark.parametrize("settings", every_method(1), ids=lambda one: one.method)
def test_one_model_is_merged_into_itself(settings: MergeSettings) -> None:
    base, models = matrices(1)
    torch.testing.assert_close(settings.merge(base, models), models[0], rtol=0, atol=1e-15)


@pytest.mark.parametrize("settings", every_method(3), ids=lambda one: one.method)
def test_the_order_of_models_is_no_matter(settings: MergeSettings) -> None:
    base, models = matrices(3)
    torch.testing.assert_close(
        settings.merge(base, models), settings.merge(base, models[::-1]), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("settings", every_method(2), ids=lambda one: one.method)
def test_models_that_did_not_move_stay_the_base(settings: MergeSettings) -> None:
    base, _ = matrices(1)
    torch.testing.assert_close(settings.merge(base, [base, base]), base, rtol=0, atol=1e-15)


def test_linear_and_task_arithmetic_are_their_sums() -> None:
    base, (a, b) = matrices(2)
    mean = Linear(models=named(2), weights=[1.0, 3.0]).merge(base, [a, b])
    torch.testing.assert_close(mean, 0.25 * a + 0.75 * b)
    added = TaskArithmetic(models=named(2)).merge(base, [a, b])
    torch.testing.assert_close(added, base + 0.3 * (a - base) + 0.3 * (b - base))


def test_varm_weighs_by_the_mean_square_of_the_difference() -> None:
    base, (model,) = matrices(1)
    delta = model - base
    merged = VaRM(models=named(2)).merge(base, [base + delta, base + 3 * delta])
    torch.testing.assert_close(merged, 0.1 * (base + delta) + 0.9 * (base + 3 * delta))


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-30])
def test_small_differences_weigh_as_large_ones_do(scale: float) -> None:
    delta = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float32) * scale
    found = shares(torch.stack([delta, 3 * delta]))
    torch.testing.assert_close(found, torch.tensor([0.1, 0.9], dtype=torch.float64))


def sce_by_hand(base: Tensor, models: Sequence[Tensor], tau: float, *, divide: bool) -> Tensor:
    """The equations of the paper, one entry after the other, in Python floats."""
    rows = [[float(x) for x in (model - base).reshape(-1)] for model in models]
    size = base.numel()
    spread = [
        sum((row[i] - sum(r[i] for r in rows) / len(rows)) ** 2 for row in rows)
        for i in range(size)
    ]
    kept = sorted(range(size), key=lambda i: -spread[i])[: int(tau * size)]
    rows = [[x if i in kept else 0.0 for i, x in enumerate(row)] for row in rows]
    total = sum(x * x for row in rows for x in row)
    eta = [sum(x * x for x in row) / total for row in rows]
    merged = []
    for i in range(size):
        sign = 1 if sum(row[i] for row in rows) >= 0 else -1
        left = [j for j, row in enumerate(rows) if row[i] * sign > 0]
        value = sum(eta[j] * rows[j][i] for j in left)
        merged.append(value / sum(eta[j] for j in left) if divide and left else value)
    return base + torch.tensor(merged, dtype=torch.float64).view_as(base)


@pytest.mark.parametrize("divide", [True, False])
@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
def test_sce_is_its_equations(tau: float, divide: bool) -> None:
    base, models = matrices(3)
    merged = SCE(models=named(3), density=tau, renormalize=divide).merge(base, models)
    by_hand = sce_by_hand(base, models, tau, divide=divide)
    torch.testing.assert_close(merged, by_hand, rtol=0, atol=1e-14)


def test_sce_changes_no_more_entries_than_it_selects() -> None:
    base, models = matrices(3)
    merged = SCE(models=named(3), density=0.1).merge(base, models)
    assert 0 < int((merged != base).sum()) <= 3  # of 30 entries


def test_sce_selects_nothing_where_nothing_varies() -> None:
    delta = torch.ones(2, 4, 4)
    assert not most_varying(delta, 0.5).any()
    assert most_varying(delta, 1.0).all()


def test_the_sign_of_the_minority_vanishes() -> None:
    deltas = torch.tensor([[3.0, -3.0, 1.0, 0.0], [-1.0, 1.0, -1.0, 2.0]])
    expected = [[True, True, True, False], [False, False, False, True]]
    assert agreeing(deltas).tolist() == expected  # a sum of 0 is positive


def test_ties_trims_elects_and_merges() -> None:
    base = torch.zeros(4, dtype=torch.float64)
    one = torch.tensor([4.0, -0.1, 2.0, -1.0], dtype=torch.float64)
    two = torch.tensor([-1.0, 3.0, 0.2, -5.0], dtype=torch.float64)
    assert trimmed(one, 0.5).tolist() == [4.0, 0.0, 2.0, 0.0]
    merged = Ties(models=named(2), density=0.5).merge(base, [one, two])
    # What is left: [4, 0, 2, 0] and [0, 3, 0, -5]; of every entry one model's.
    assert merged.tolist() == [4.0, 3.0, 2.0, -5.0]
    opposed = Ties(models=named(2), density=1.0).merge(base, [one, two])
    # The means over those with the sign of the sum: 4; 3; (2 + 0.2) / 2; (-1 - 5) / 2.
    torch.testing.assert_close(opposed, torch.tensor([4.0, 3.0, 1.1, -3.0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": [0.5]}, "weights has 1 numbers, and models has 2 names"),
        ({"models": ["a", "a"]}, "a is named twice"),
        ({"weights": [1.0, -1.0]}, "weights add up to 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Linear(**{"models": ["a", "b"], **settings})


MERGEKIT = [
    (SCE(models=named(3), density=1.0), {"select_topk": 1.0}),
    (SCE(models=named(3), density=0.5), {"select_topk": 0.5}),
    (Linear(models=named(3)), {"weight": 1.0}),
    (TaskArithmetic(models=named(3)), {"weight": 0.3}),
    (Ties(models=named(3), weights=[0.2, 0.3, 0.2]), {"weight": [0.2, 0.3, 0.2], "density": 0.6}),
]


@pytest.mark.parametrize(
    ("settings", "parameters"), MERGEKIT, ids=lambda one: getattr(one, "method", "")
)
def test_it_equals_mergekit(settings: MergeSettings, parameters: dict[str, Any]) -> None:
    """Where differences are far above mergekit's absolute limit of 1e-6."""
    api = pytest.importorskip("mergekit.merge_methods.api")
    base, models = matrices(3)
    given = models if settings.method == "linear" else [base, *models]
    base_index = None if settings.method == "linear" else 0
    theirs = api.merge_tensors(given, settings.method, parameters=parameters, base_index=base_index)
    torch.testing.assert_close(settings.merge(base, models), theirs, rtol=0, atol=1e-14)

"""Estimates with intervals and tests for the report, as pure functions of arrays.

Within one run the unit is the prompt: all models answer the same prompts, so differences are
taken prompt by prompt. Across runs the unit is the seed: few values, hence Student's t.
`wrpo.statistics.intervals` has the methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from wrpo.statistics.intervals import (
    FEWEST_VARIED,
    Floats,
    Intervals,
    student_t,
    studentised_bootstrap,
    tango,
    varied,
    wilson,
)

LEVEL = 0.95
SIGNIFICANCE = 1.0 - LEVEL


@dataclass(frozen=True)
class Estimate:
    """A mean or a mean difference with its interval.

    Attributes:
        low, high: bounds of the interval; NaN where n allows none.
        n: prompts or seeds.
        p: two-sided p-value of "the difference is 0"; NaN for plain means.
        method: wilson, tango, bootstrap-t or t; equal where all values are equal and the interval
            follows from the scale.
        few: the data vary on so few prompts that the interval may be too narrow.
    """

    value: float
    low: float
    high: float
    n: int
    p: float = math.nan
    method: str = ""
    few: bool = False

    @property
    def sign(self) -> int:
        """1 or -1 when the whole interval is on that side of 0, else 0."""
        if self.low > 0:
            return 1
        return -1 if self.high < 0 else 0


def means(
    columns: Floats, *, scale: tuple[float, float] | None = None, level: float = LEVEL
) -> list[Estimate]:
    """Mean of each column: shares of 0s and 1s by Wilson, all else by the studentised bootstrap.

    Args:
        columns: one row per prompt and one column per model, shape (n, models).
        scale: lowest and highest value of ratings, which are no shares even where all of them are
            0 or 1; the interval stays within it, and equal values have one too.
    """
    columns = _checked(columns)
    if scale is None and _binary(columns):
        found = wilson(columns.sum(axis=0), len(columns), level=level)
        return _estimates(columns, found, method="wilson")
    plain = _over_prompts(columns, level=level)
    found_means = [Estimate(e.value, e.low, e.high, e.n, math.nan, e.method, e.few) for e in plain]
    return found_means if scale is None else [_on_scale(e, scale, level) for e in found_means]


def differences(
    first: Floats, others: Floats, *, shares: bool = True, level: float = LEVEL
) -> list[Estimate]:
    """Mean of `first` minus each column of `others`, prompt by prompt.

    Args:
        first: shape (n,).
        others: shape (n, models).
        shares: 0s and 1s are wins and losses, not ratings.
    """
    others = _checked(others)
    gaps = np.asarray(first, dtype=np.float64)[:, None] - others
    if shares and _binary(first) and _binary(others):
        won, lost = (gaps > 0).sum(axis=0), (gaps < 0).sum(axis=0)
        found = tango(won, lost, len(gaps), level=level)
        return _estimates(gaps, found, method="tango")
    return _over_prompts(gaps, level=level)


def wins(first: Floats, second: Floats, *, level: float = LEVEL) -> Estimate:
    """Share of prompts on which `first` is higher, ties counting half.

    Its interval is Tango's for the share won minus the share lost; p is that of the sign test in
    McNemar's form, of a share of one half.
    """
    gaps = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    n = len(gaps)
    net = tango(np.array([(gaps > 0).sum()]), np.array([(gaps < 0).sum()]), n, level=level)
    value = 0.5 + float(np.sign(gaps).mean()) / 2
    low, high = (0.5 + float(bound[0]) / 2 for bound in (net.low, net.high))
    return Estimate(value, low, high, n, float(net.p[0]), "tango")


def t_interval(values: Sequence[float], *, level: float = LEVEL) -> Estimate:
    """Mean of few independent values (seeds) with Student's t interval.

        mean +- t(n - 1, (1 + level) / 2) * sd / sqrt(n)

    One value, or equal values, have no interval: low, high and p are NaN.
    """
    n = len(values)
    if n < 2:
        return Estimate(float(np.mean(values)), math.nan, math.nan, n, method="t")
    column = np.array(values, dtype=np.float64)[:, None]
    (estimate,) = _estimates(column, student_t(column, level=level), method="t")
    return estimate


def standard_deviation(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1); NaN for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: below 0.05 keeps the chance of any false claim under 5%.

    NaN (no test) stays NaN and does not count as a test.
    """
    adjusted = [math.nan] * len(p_values)
    tested = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    largest = 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, p * (len(tested) - rank)))
        adjusted[index] = largest
    return adjusted


def _on_scale(estimate: Estimate, scale: tuple[float, float], level: float) -> Estimate:
    """The interval within the scale; for equal values it follows from how many others may be.

    Where n prompts all have the value v, Wilson's bound q says which share of all prompts may have
    another one, and that lies anywhere on the scale: v - q (v - lowest) to v + q (highest - v).
    """
    lowest, highest = scale
    if not math.isnan(estimate.low):
        low, high = max(lowest, estimate.low), min(highest, estimate.high)
        return replace(estimate, low=low, high=high)
    q = float(wilson(np.zeros(1), estimate.n, level=level).high[0])
    low = estimate.value - q * (estimate.value - lowest)
    high = estimate.value + q * (highest - estimate.value)
    return replace(estimate, low=low, high=high, method="equal")


def _over_prompts(columns: Floats, *, level: float) -> list[Estimate]:
    if len(columns) < 2:
        nothing = np.full(columns.shape[1], math.nan)
        return _estimates(columns, Intervals(nothing, nothing, nothing), method="")
    found = studentised_bootstrap(columns, level=level)
    few = varied(columns) < FEWEST_VARIED
    return [
        Estimate(e.value, e.low, e.high, e.n, e.p, "t" if scarce else e.method, bool(scarce))
        for e, scarce in zip(_estimates(columns, found, method="bootstrap-t"), few, strict=True)
    ]


def _estimates(columns: Floats, found: Intervals, *, method: str) -> list[Estimate]:
    return [
        Estimate(float(value), float(low), float(high), len(columns), float(p), method)
        for value, low, high, p in zip(
            columns.mean(axis=0), found.low, found.high, found.p, strict=True
        )
    ]


def _checked(columns: Floats) -> Floats:
    columns = np.asarray(columns, dtype=np.float64)
    if columns.ndim != 2 or not len(columns):
        raise ValueError(f"values must be (prompts, models), not {columns.shape}")
    return columns


def _binary(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())

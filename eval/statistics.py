"""Intervals and tests for the report, as pure functions of arrays.

Within one run the unit is the prompt: all models answer the same prompts, so prompts are resampled
and every model is read off the same resample (a paired bootstrap). Across runs the unit is the
seed: few values, hence Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 0
_CHUNK_CELLS = 4_000_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean or a mean difference with its interval.

    Attributes:
        low, high: bounds of the interval; NaN where n allows none.
        n: prompts or seeds.
        p: two-sided p-value of "the difference is 0"; NaN for plain means.
    """

    value: float
    low: float
    high: float
    n: int
    p: float = math.nan

    @property
    def sign(self) -> int:
        """1 or -1 when the whole interval is on that side of 0, else 0."""
        if self.low > 0:
            return 1
        return -1 if self.high < 0 else 0


class PairedBootstrap:
    """Means of several models over the same prompts, and of the same resamples of them.

    Args:
        values: one row per prompt and one column per model, shape (n, models).
        resamples: how often the n prompts are drawn with replacement.
    """

    def __init__(
        self, values: Floats, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = SEED
    ) -> None:
        self.values = np.asarray(values, dtype=np.float64)
        if self.values.ndim != 2 or not len(self.values):
            raise ValueError(f"values must be (prompts, models), not {self.values.shape}")
        self.level = level
        self.means = _resampled_means(self.values, resamples=resamples, seed=seed)

    def mean(self, model: int) -> Estimate:
        """Mean of one column with its percentile interval."""
        low, high = self._interval(self.means[:, model])
        return Estimate(float(self.values[:, model].mean()), low, high, len(self.values))

    def difference(self, model: int, other: int) -> Estimate:
        """Mean of column `model` minus mean of column `other`, prompt by prompt.

        The p-value is the level at which the percentile interval just reaches 0.
        """
        resampled = self.means[:, model] - self.means[:, other]
        low, high = self._interval(resampled)
        value = float((self.values[:, model] - self.values[:, other]).mean())
        return Estimate(value, low, high, len(self.values), _two_sided_p(resampled))

    def _interval(self, resampled: Floats) -> tuple[float, float]:
        tail = (1.0 - self.level) / 2.0
        low, high = np.quantile(resampled, [tail, 1.0 - tail])
        return float(low), float(high)


def t_interval(values: Sequence[float], *, level: float = LEVEL) -> Estimate:
    """Mean of few independent values (seeds) with Student's t interval.

        mean +- t(n - 1, (1 + level) / 2) * sd / sqrt(n)

    One value has no interval: low, high and p are NaN.
    """
    n = len(values)
    if n < 2:
        return Estimate(float(np.mean(values)), math.nan, math.nan, n)
    from scipy.stats import t  # type: ignore[import-untyped]

    centre = float(np.mean(values))
    error = standard_deviation(values) / math.sqrt(n)
    half = float(t.ppf((1.0 + level) / 2.0, n - 1)) * error
    if error == 0.0:
        p = 1.0 if centre == 0.0 else 0.0
    else:
        p = 2.0 * float(t.sf(abs(centre) / error, n - 1))
    return Estimate(centre, centre - half, centre + half, n, p)


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


def _resampled_means(values: Floats, *, resamples: int, seed: int) -> Floats:
    """(resamples, models): all columns see the same draws."""
    n = len(values)
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_CELLS // n)
    means = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        means.append(counts @ values / n)
    return np.concatenate(means)


def _two_sided_p(resampled: Floats) -> float:
    below = float(np.mean(resampled < 0)) + float(np.mean(resampled == 0)) / 2
    tail = min(below, 1.0 - below)
    return min(1.0, max(2.0 * tail, 1.0 / len(resampled)))

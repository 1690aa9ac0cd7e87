"""Confidence intervals for means over prompts, each for many columns at once.

| values | interval | test of "no difference" that agrees with it |
|---|---|---|
| 0 or 1 | Wilson's score interval | |
| differences of 0s and 1s | Tango's score interval | McNemar's: exact for few discordant pairs |
| any other | studentised bootstrap | the same bootstrap |
| equal ratings on a scale | from Wilson's bound and the ends of the scale | |

`python -m benchmarks.coverage` shows how often they hold the true value. The percentile bootstrap
is not among them: for thirty prompts it holds the truth too seldom (0.77 to 0.94 where 0.95 is
promised, for accuracies of 0.95 to 0.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 10_000
RESAMPLING_SEED = 0
FEWEST_VARIED = 10
EXACT_BELOW = 25
"""Discordant pairs below which McNemar's test is the exact binomial one."""
_CHUNK_CELLS = 4_000_000
_HALVINGS = 60


@dataclass(frozen=True)
class Intervals:
    """One interval per column.

    Attributes:
        p: two-sided p-values of "the mean is 0": below 1 - level where the interval leaves out 0,
            but for few discordant pairs (see `tango`). NaN where the method has no such test.
    """

    low: Floats
    high: Floats
    p: Floats


def wilson(successes: Floats, n: int, *, level: float) -> Intervals:
    """Score interval of a share (Wilson 1927).

    Raises:
        ValueError: n is not positive.
    """
    if n < 1:
        raise ValueError(f"a share of {n} prompts has no interval")
    z = normal_quantile(level)
    successes = np.asarray(successes, dtype=np.float64)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    low = np.where(successes == 0, 0.0, centre - half)
    high = np.where(successes == n, 1.0, centre + half)
    return Intervals(low, high, np.full_like(share, math.nan))


def tango(only_first: Floats, only_second: Floats, n: int, *, level: float) -> Intervals:
    """Score interval of the difference of two shares over the same n prompts (Tango 1998).

    Its p is McNemar's. For few discordant pairs that test is exact and the interval is not, so that
    the interval may leave out 0 where p is above 1 - level: a claim needs both.

    Args:
        only_first: prompts on which the first is 1 and the second 0; `only_second` the reverse.
    """
    b = np.asarray(only_first, dtype=np.float64)
    c = np.asarray(only_second, dtype=np.float64)
    difference = (b - c) / n
    ends = np.ones_like(difference)
    z = normal_quantile(level)
    low = _crossing(b, c, n, from_=-ends, to=difference, z=z)
    high = _crossing(b, c, n, from_=difference, to=ends, z=-z)
    return Intervals(low, high, mcnemar(b, c))


def mcnemar(only_first: Floats, only_second: Floats) -> Floats:
    """Two-sided p of McNemar's test, without continuity correction.

    With fewer than `EXACT_BELOW` discordant pairs the normal approximation claims too much (6 to 0
    has p = 0.014 by it and 0.031 exactly): p is then twice the smaller tail of the binomial
    distribution with share one half. Above, it is the score of Tango's interval at a difference of
    0.
    """
    from scipy.stats import binom  # type: ignore[import-untyped]

    only_first, only_second = np.asarray(only_first), np.asarray(only_second)
    total = only_first + only_second
    score = np.abs(only_first - only_second) / np.sqrt(np.maximum(total, 1.0))
    approximate = np.vectorize(math.erfc, otypes=[float])(score / math.sqrt(2))
    exact = np.minimum(1.0, 2.0 * binom.cdf(np.minimum(only_first, only_second), total, 0.5))
    return np.where(total < EXACT_BELOW, exact, approximate)


def _crossing(b: Floats, c: Floats, n: int, *, from_: Floats, to: Floats, z: float) -> Floats:
    """Where the score, which falls with the difference, passes z; by halving."""
    low, high = from_.copy(), to.copy()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = _tango_score(b, c, n, middle) > z
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    crossing: Floats = (low + high) / 2
    return crossing


def _tango_score(b: Floats, c: Floats, n: int, difference: Floats) -> Floats:
    """(b - c - n d) over its standard error, with P(only second) at its likeliest value given d."""
    linear = (2 * n - b + c) * difference - b - c
    constant = -c * difference * (1 - difference)
    root = np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0.0))
    only_second = (root - linear) / (4 * n)
    variance = n * (2 * only_second + difference * (1 - difference))
    score: Floats = (b - c - n * difference) / np.sqrt(np.maximum(variance, 1e-12))
    return score


def studentised_bootstrap(
    columns: Floats, *, level: float, resamples: int = RESAMPLES, seed: int = RESAMPLING_SEED
) -> Intervals:
    """Bootstrap-t intervals of the mean of each column (Efron and Tibshirani 1993, section 12.5).

        t* = (mean* - mean) / se*,   interval: mean - t*(1 - a/2) se  to  mean - t*(a/2) se

    All columns see the same resamples. A resample of a column with fewer than `FEWEST_VARIED`
    values beside its commonest one may have no spread at all; such columns get Student's t.

    Args:
        columns: shape (n, columns).
    """
    columns = np.asarray(columns, dtype=np.float64)
    if columns.ndim != 2 or len(columns) < 2:
        raise ValueError(f"columns must be (two prompts or more, columns), not {columns.shape}")
    result = student_t(columns, level=level)
    usable = np.flatnonzero(varied(columns) >= FEWEST_VARIED)
    if len(usable):
        chosen = columns[:, usable]
        pivots = _pivots(chosen, resamples=resamples, seed=seed)
        tail = (1.0 - level) / 2.0
        lower, upper = np.quantile(pivots, [tail, 1.0 - tail], axis=0)
        mean, error = chosen.mean(axis=0), standard_error(chosen)
        result.low[usable] = mean - upper * error
        result.high[usable] = mean - lower * error
        at_zero = mean / error
        tails = np.minimum((pivots >= at_zero).mean(axis=0), (pivots <= at_zero).mean(axis=0))
        result.p[usable] = np.clip(2.0 * tails, 1.0 / resamples, 1.0)
    return result


def student_t(columns: Floats, *, level: float) -> Intervals:
    """Student's t interval of the mean of each column, shape (n, columns).

    NaN where all values of a column are equal: without spread there is nothing to judge by.
    """
    from scipy.stats import t

    n = len(columns)
    mean, error = columns.mean(axis=0), standard_error(columns)
    half = float(t.ppf((1.0 + level) / 2.0, n - 1)) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2.0 * t.sf(np.abs(mean) / error, n - 1)
    spread = (error > 0) & (varied(columns) > 0)  # equal fractions may have a tiny error
    low, high, p = (np.where(spread, v, math.nan) for v in (mean - half, mean + half, p))
    return Intervals(low, high, p)


def varied(columns: Floats) -> NDArray[np.int64]:
    """How many values of each column differ from its commonest value."""
    counts = [np.unique(column, return_counts=True)[1].max() for column in columns.T]
    return len(columns) - np.array(counts, dtype=np.int64)


def standard_error(columns: Floats) -> Floats:
    """Standard error of the mean of each column."""
    error: Floats = columns.std(axis=0, ddof=1) / math.sqrt(len(columns))
    return error


def normal_quantile(level: float) -> float:
    """Half the width of the central `level` of a standard normal: 1.96 for 0.95."""
    from statistics import NormalDist

    return NormalDist().inv_cdf((1.0 + level) / 2.0)


def _pivots(columns: Floats, *, resamples: int, seed: int) -> Floats:
    """t* of every resample and column, shape (resamples, columns)."""
    n = len(columns)
    centred = columns - columns.mean(axis=0)
    smallest = 1e-6 * centred.std(axis=0)
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_CELLS // n)
    found = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        drawn = generator.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n) / n
        means = counts @ centred
        spread = np.sqrt(np.maximum(counts @ centred**2 - means**2, 0.0))
        error = np.maximum(spread, smallest) / math.sqrt(n - 1)
        found.append(means / error)
    return np.concatenate(found)

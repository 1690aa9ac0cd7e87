"""How often the report's 95% intervals hold the true value, by simulation.

Usage: python -m benchmarks.coverage [--repetitions N]

Each line draws many data sets of a known truth and makes the interval of each with the code that
the report uses. `percentile` is the interval of the percentile bootstrap, for comparison. True
shares are drawn again until they are within 0.02 of the value named, since no model is right on
exactly nine tenths of all prompts; with a fixed share, coverage of any interval for few prompts
jumps as the share moves.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wrpo.statistics.estimates import LEVEL
from wrpo.statistics.intervals import (
    Floats,
    Intervals,
    student_t,
    studentised_bootstrap,
    tango,
    wilson,
)

logger = logging.getLogger(__name__)

PROMPTS = (30, 100, 600)
SHARES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
PAIRS = ((0.1, 0.1), (0.5, 0.5), (0.65, 0.6), (0.8, 0.7), (0.9, 0.5), (0.9, 0.9), (0.95, 0.95))
CORRELATIONS = (0.0, 0.3, 0.6)
JITTER = 0.02
RESAMPLES = 1000

Draw = Callable[[np.random.Generator, int, int], tuple[Floats, Floats]]
"""(generator, n, repetitions) to values of shape (n, repetitions) and the truth of each."""


@dataclass(frozen=True)
class Situation:
    """Data of one kind and the interval the report makes for them.

    Attributes:
        differing: expected number of prompts that two models answer differently, for pairs.
    """

    name: str
    n: int
    draw: Draw
    interval: Callable[[Floats], Intervals]
    differing: float = float("nan")


@dataclass(frozen=True)
class Coverage:
    """Shares of data sets whose truth the interval holds, is below it, and is above it."""

    held: float
    below: float
    above: float


def situations() -> Iterator[Situation]:
    """Everything that the report makes intervals for."""
    for n in PROMPTS:
        for share in (*SHARES, 0.98):
            yield Situation(f"share {share:g}", n, _shares(share), _wilson)
        for first, second in (*PAIRS, (0.98, 0.97)):
            for correlation in CORRELATIONS:
                yield _pair(n, first, second, correlation)
        for name, draw in REWARDS.items():
            yield Situation(name, n, draw, _bootstrap)
    for seeds in (3, 5):
        yield Situation(f"accuracy over {seeds} seeds", seeds, _seeds, _t)


def measure(situation: Situation, *, repetitions: int, seed: int = 0) -> Coverage:
    """Coverage of the report's interval."""
    values, truth = _data(situation, repetitions, seed)
    return _coverage(situation.interval(values), truth)


def measure_percentile(situation: Situation, *, repetitions: int, seed: int = 0) -> Coverage:
    """Coverage of the percentile bootstrap on the same data."""
    values, truth = _data(situation, repetitions, seed)
    n = len(values)
    counts = np.random.default_rng(1).multinomial(n, [1 / n] * n, size=RESAMPLES) / n
    low, high = np.quantile(counts @ values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return _coverage(Intervals(low, high, low), truth)


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repetitions", type=int, default=10_000)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    table: dict[str, list[str]] = {}
    for situation in situations():
        ours = measure(situation, repetitions=args.repetitions)
        percentile = measure_percentile(situation, repetitions=args.repetitions)
        cell = f"{ours.held:.3f} ({percentile.held:.3f})"
        table.setdefault(situation.name, []).append(cell)
        logger.info("%s, n %d: %s", situation.name, situation.n, cell)
    header = " | ".join(f"n = {n}" for n in PROMPTS)
    lines = [f"| {name} | {' | '.join(cells)} |" for name, cells in table.items()]
    logger.info("| held (percentile) | %s |\n%s", header, "\n".join(lines))


def _data(situation: Situation, repetitions: int, seed: int) -> tuple[Floats, Floats]:
    return situation.draw(np.random.default_rng(seed), situation.n, repetitions)


def _coverage(found: Intervals, truth: Floats) -> Coverage:
    slack = 1e-9  # bounds and truths that are the same fraction
    below, above = truth < found.low - slack, truth > found.high + slack
    return Coverage(
        float(1 - below.mean() - above.mean()),
        float(below.mean()),
        float(above.mean()),
    )


def _wilson(values: Floats) -> Intervals:
    return wilson(values.sum(axis=0), len(values), level=LEVEL)


def _tango(values: Floats) -> Intervals:
    won, lost = (values > 0).sum(axis=0), (values < 0).sum(axis=0)
    return tango(won, lost, len(values), level=LEVEL)


def _bootstrap(values: Floats) -> Intervals:
    return studentised_bootstrap(values, level=LEVEL, resamples=RESAMPLES)


def _t(values: Floats) -> Intervals:
    return student_t(values, level=LEVEL)


def _jittered(generator: np.random.Generator, share: float, repetitions: int) -> Floats:
    return np.minimum(share + generator.uniform(-JITTER, JITTER, size=repetitions), 0.995)


def _shares(share: float) -> Draw:
    def draw(generator: np.random.Generator, n: int, repetitions: int) -> tuple[Floats, Floats]:
        truth = _jittered(generator, share, repetitions)
        return (generator.random((n, repetitions)) < truth).astype(np.float64), truth

    return draw


def _pair(n: int, first: float, second: float, correlation: float) -> Situation:
    """Two models with these accuracies, whose right responses have this correlation."""
    spread = np.sqrt(first * (1 - first) * second * (1 - second))
    both = min(first * second + correlation * spread, first, second)

    def draw(generator: np.random.Generator, n: int, repetitions: int) -> tuple[Floats, Floats]:
        uniform = generator.random((n, repetitions))
        won = uniform < first - both
        lost = ~won & (uniform < first + second - 2 * both)
        return won.astype(np.float64) - lost, np.full(repetitions, first - second)

    name = f"pair {first:g} and {second:g}, correlation {correlation:g}"
    return Situation(name, n, draw, _tango, differing=n * (first + second - 2 * both))


def _reward(
    generator: np.random.Generator, right: NDArray[np.bool_], manner: float = 0.85
) -> Floats:
    """The demo's reward: 2 for content, 1 for layout, 1 for manner."""
    layout = generator.random(right.shape) < 0.9
    polite = generator.random(right.shape) < manner
    return 2.0 * right.astype(np.float64) + layout + polite


def _reward_levels(
    generator: np.random.Generator, n: int, repetitions: int
) -> tuple[Floats, Floats]:
    right = generator.random((n, repetitions)) < 0.8
    return _reward(generator, right), np.full(repetitions, 1.6 + 0.9 + 0.85)


def _reward_differences(
    generator: np.random.Generator, n: int, repetitions: int
) -> tuple[Floats, Floats]:
    """Two models on prompts of unequal difficulty: what one gets wrong the other may too."""
    easy = generator.random((n, repetitions))
    first = _reward(generator, easy < 0.85)
    second = _reward(generator, easy < 0.7, manner=0.7)
    return first - second, np.full(repetitions, 2 * 0.15 + 0.15)


def _normal(generator: np.random.Generator, n: int, repetitions: int) -> tuple[Floats, Floats]:
    return generator.normal(0.3, 1.0, (n, repetitions)), np.full(repetitions, 0.3)


def _skewed(generator: np.random.Generator, n: int, repetitions: int) -> tuple[Floats, Floats]:
    return generator.exponential(1.0, (n, repetitions)), np.ones(repetitions)


def _judged(generator: np.random.Generator, n: int, repetitions: int) -> tuple[Floats, Floats]:
    values = generator.choice([0.0, 0.5, 1.0], p=[0.3, 0.2, 0.5], size=(n, repetitions))
    return values, np.full(repetitions, 0.6)


def _seeds(generator: np.random.Generator, n: int, repetitions: int) -> tuple[Floats, Floats]:
    """Accuracies over 600 prompts each, of models whose true accuracy varies by seed."""
    true = np.clip(generator.normal(0.85, 0.03, (n, repetitions)), 0.0, 1.0)
    return generator.binomial(600, true) / 600, np.full(repetitions, 0.85)


REWARDS: dict[str, Draw] = {
    "reward, four levels": _reward_levels,
    "reward difference, correlated": _reward_differences,
    "reward, normal": _normal,
    "reward, exponential": _skewed,
    "judge's verdicts 0, 0.5, 1": _judged,
}


if __name__ == "__main__":
    main()

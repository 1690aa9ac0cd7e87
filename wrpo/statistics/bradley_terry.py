"""Arena-Hard v0.1's statistics: Bradley-Terry strengths from battles with one baseline.

    P(model beats baseline) = 1 / (1 + 10 ** ((R_baseline - R_model) / 400))

With one baseline the maximum of the likelihood is a closed form: the win rate is the weighted
mean of the scores 1, 1/2 and 0. With style control the odds also depend on differences of style,
and the win rate is that at no difference:

    logit P = log(10) * r + b . style / sd(style)

with scikit-learn's default penalty, 1/2 the sum of squares. The published script fits all models
of its leaderboard at once and subtracts the mean style of all battles, so that a win rate depends
on who else is listed. Here each model is fitted by itself and nothing is subtracted.

Source: Li et al., From Crowdsourced Data to High-Quality Benchmarks (arXiv 2406.11939);
lmarena/arena-hard-auto, show_result.py and utils_math.py of v0.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wrpo.statistics.intervals import Floats

BASE = 10.0
ROUNDS = 100
"""Bootstrap rounds of the published script."""
_LEVEL = 0.95


@dataclass(frozen=True)
class Battles:
    """Games of one model against the baseline.

    Attributes:
        score: 1, 0.5 or 0 for the model, shape (games,).
        weight: 3 for a clear verdict, else 1.
        question: which question each game belongs to.
    """

    score: Floats
    weight: Floats
    question: NDArray[np.int64]

    def win_rate(self) -> float:
        """Bradley-Terry probability of beating the baseline."""
        return float(np.sum(self.score * self.weight) / np.sum(self.weight))

    def expanded(self) -> Floats:
        """Scores with clear verdicts repeated, as the published script counts battles."""
        return np.repeat(self.score, self.weight.astype(np.int64))


def published_interval(
    battles: Battles, *, rounds: int = ROUNDS, seed: int = 0
) -> tuple[float, float]:
    """The published 95% interval: battles drawn with replacement, each for itself."""
    scores = battles.expanded()
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(scores), size=(rounds, len(scores)))
    return _interval(scores[drawn].mean(axis=1))


def question_interval(
    battles: Battles, *, rounds: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """A 95% interval from resampled questions: the games of one question stay together.

    Battles of one question are not independent, so this is the wider and the honest one.
    """
    numbers, places = np.unique(battles.question, return_inverse=True)
    won = np.bincount(places, battles.score * battles.weight)
    played = np.bincount(places, battles.weight)
    counts = _resampled_counts(len(numbers), rounds, seed)
    return _interval((counts @ won) / (counts @ played))


def style_controlled(battles: Battles, style: Floats) -> tuple[float, Floats]:
    """Win rate at equal style, and the weight of each style feature per standard deviation.

    Args:
        style: normalised differences model - baseline, shape (games, features); constant
            features are left out of the fit and get weight 0.
    """
    spread = np.repeat(style, battles.weight.astype(np.int64), axis=0).std(axis=0)
    varies = spread > 0
    scaled = style[:, varies] / spread[varies]
    features = np.column_stack([np.full(len(style), np.log(BASE)), scaled])
    # Two models have two ratings in the published fit, r and -r with a penalty on both; one
    # rating difference d has the same optimum with d = 2 r and penalty d^2 / 4.
    penalty = np.concatenate([[0.5], np.ones(features.shape[1] - 1)])
    # The published script doubles every battle.
    weights = _fit_logistic(features, battles.score, 2.0 * battles.weight, penalty)
    effects = np.zeros(style.shape[1])
    effects[varies] = weights[1:]
    return float(1.0 / (1.0 + BASE ** -weights[0])), effects


def style_interval(
    battles: Battles, style: Floats, *, rounds: int = ROUNDS, seed: int = 0
) -> tuple[float, float]:
    """A 95% interval of the style-controlled win rate from resampled questions."""
    numbers, places = np.unique(battles.question, return_inverse=True)
    rates = []
    for counts in _resampled_counts(len(numbers), rounds, seed):
        drawn = np.repeat(np.arange(len(places)), counts[places])
        sample = Battles(battles.score[drawn], battles.weight[drawn], battles.question[drawn])
        rates.append(style_controlled(sample, style[drawn])[0])
    return _interval(np.array(rates))


def _resampled_counts(n: int, rounds: int, seed: int) -> NDArray[np.int64]:
    """How often each of n questions is drawn, shape (rounds, n)."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=rounds)


def _interval(values: Floats) -> tuple[float, float]:
    tail = (1.0 - _LEVEL) / 2.0
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def _fit_logistic(features: Floats, target: Floats, weight: Floats, penalty: Floats) -> Floats:
    """Newton's method for  sum_i w_i CE(t_i, sigmoid(x_i . b)) + 1/2 sum_j penalty_j b_j^2."""
    b = np.zeros(features.shape[1])
    for _ in range(100):
        p = 1.0 / (1.0 + np.exp(-features @ b))
        gradient = features.T @ (weight * (p - target)) + penalty * b
        curvature = (features * (weight * p * (1.0 - p))[:, None]).T @ features
        step = np.linalg.solve(curvature + np.diag(penalty), gradient)
        b = b - step
        if np.abs(step).max() < 1e-12:
            break
    return b

"""How the source models' log-probabilities of an answer become its reference: pure formulas.

All log-probabilities of one call are of the same kind: sums over an answer's tokens, or means, each
under its model's own tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Literal, NamedTuple

FusionRule = Literal["max_margin", "average", "confidence"]

# InfiFPO's eq. 24 calls it "a small constant"; it keeps a log-probability of 0 from dividing by 0.
_CONFIDENCE_EPSILON = 1e-6

# Limits of CGPO's published code.
_LARGEST_Z = 5.0
_SMALLEST_SPREAD = 1e-6


def fused_reference(
    initial: float, sources: Sequence[float], *, preferred: bool, rule: FusionRule, clip: bool
) -> float:
    """Log-probability of an answer under the fused reference, in the unit of the arguments.

    Args:
        initial: under the initial policy.
        sources: under each source model.
        preferred: whether the answer is a preferred one.
        rule: max_margin takes the source that differs most from the initial policy (eq. 12),
            average the mean over the initial policy and the sources (eq. 23), confidence a mean
            weighted by 1 / -log-probability (eqs. 24 and 25).
        clip: keep a source from falling below the initial policy on a preferred answer, and from
            rising above it on another (eq. 11).

    The paper leaves open whether eq. 12 compares with the policy of the moment or the initial one,
    and whether it picks per answer or per pair; here it is the initial one, per answer. The initial
    policy counts as one of the sources, as the text after eq. 5 says.

    Source: InfiFPO (arXiv 2505.13878), numbers of its equations; its training code is not public.
    """
    if clip:
        bound = max if preferred else min
        sources = [bound(source, initial) for source in sources]
    if rule == "max_margin":
        return max(sources, key=lambda source: abs(source - initial))
    candidates = [initial, *sources]
    if rule == "average":
        return fmean(candidates)
    confidence = [1.0 / (_CONFIDENCE_EPSILON - candidate) for candidate in candidates]
    return fmean(candidates, confidence)


class Spread(NamedTuple):
    """Mean and population standard deviation of a source's mean token entropies."""

    mean: float
    deviation: float


def entropy_spread(entropies: Sequence[float]) -> Spread:
    """Calibration of one source: how its mean token entropy varies over answers.

    Source: CGPO (2026), eq. 10 as its code numbers it. There entropies are divided by the log of
    the vocabulary's size, which cancels in the z-scores that the spread is for.
    """
    return Spread(fmean(entropies), max(pstdev(entropies), _SMALLEST_SPREAD))


def source_weights(
    entropies: Sequence[float],
    spreads: Sequence[Spread],
    *,
    temperature: float,
    floor: float,
) -> list[float]:
    """Weight of each source for one answer; they add up to 1, none is below `floor`.

        z_i = (H_i - mean_i) / deviation_i, within -5 and 5
        w_i = floor + (1 - N * floor) * softmax(-z / temperature)_i

    A source that is surer than it usually is weighs more.

    Source: as `entropy_spread`.
    """
    scores = [
        (entropy - spread.mean) / spread.deviation
        for entropy, spread in zip(entropies, spreads, strict=True)
    ]
    powers = [math.exp(-min(_LARGEST_Z, max(-_LARGEST_Z, score)) / temperature) for score in scores]
    free = 1.0 - len(powers) * floor
    return [floor + free * power / sum(powers) for power in powers]


def aligned_consensus(consensus: Sequence[float], initial: Sequence[float]) -> list[float]:
    """Consensus of the sources on the answers of one prompt, shifted to the initial policy's level.

    Both arguments hold one mean log-probability per answer; the shift makes their means equal.

    Source: CGPO (2026), eq. 13 as its code numbers it.
    """
    shift = fmean(initial) - fmean(consensus)
    return [value + shift for value in consensus]

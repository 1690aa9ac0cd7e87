"""The window of pairs as quantiles of score gaps, for rewards on another scale than ArmoRM's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from data_construction.select import Answer, best, worst


def candidate_gaps(answers: Sequence[Answer]) -> list[float]:
    """score(best) - score(worst) of each source of one prompt; ties are no candidates."""
    gaps = []
    for source in sorted({answer.source for answer in answers}):
        own = [answer for answer in answers if answer.source == source]
        gap = best(own).score - worst(own).score
        if gap > 0:
            gaps.append(gap)
    return gaps


def quantile_window(gaps: Iterable[float], low: float, high: float) -> tuple[float, float]:
    """The smallest and largest gap between two quantiles, both of them observed gaps.

    Args:
        low, high: shares in [0, 1]; the quantile of share q is the gap of rank q * (n - 1), rounded
            up for `low` and down for `high`, so that the window holds no more than asked for. No
            gaps, or none in between: an empty window.
    """
    ordered = sorted(gaps)
    last = len(ordered) - 1
    first, final = math.ceil(low * last), math.floor(high * last)
    return (ordered[first], ordered[final]) if 0 <= first <= final else (math.inf, -math.inf)

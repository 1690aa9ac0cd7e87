"""The window of pairs as quantiles of score gaps, for rewards on another scale than ArmoRM's."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

from data_construction.select import Window


def quantile_window(gaps: Iterable[float], low: float, high: float) -> Window:
    """From the smallest to the largest gap between two quantiles, both of them observed gaps.

    Args:
        gaps: of all pairs that a domain could give.
        low, high: shares in [0, 1]; the quantile of share q is the gap of rank q * (n - 1), rounded
            up for `low` and down for `high`, so that the window holds no more than asked for. No
            gaps, or none in between: an empty window.
    """
    ordered = sorted(gaps)
    last = len(ordered) - 1
    # Shares as they are written: 0.1 * 30 is above 3 in float64, which would be another rank.
    first, final = math.ceil(Fraction(str(low)) * last), math.floor(Fraction(str(high)) * last)
    if not 0 <= first <= final:
        return Window(math.inf, -math.inf)
    return Window(ordered[first], ordered[final])

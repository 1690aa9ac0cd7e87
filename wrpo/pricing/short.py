"""Large numbers in a few characters."""

from __future__ import annotations


def short(number: float) -> str:
    """1.2K, 3.4M, 5.6B, 7.8T.

    >>> short(150_000_000), short(8.03e9), short(12)
    ('150M', '8.03B', '12')
    """
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:,.3g}{name}"
    return f"{number:,.0f}"

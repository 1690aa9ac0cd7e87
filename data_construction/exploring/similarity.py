"""ROUGE-L between short texts, and the texts of a list that are unlike each other."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"\w+")


def rouge_words(text: str) -> list[str]:
    """The words of a text in lower case.

    >>> rouge_words("Solve 2x = 4!")
    ['solve', '2x', '4']
    """
    return _WORD.findall(text.lower())


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """F of the longest common subsequence of two lists of words (Lin, 2004), from 0 to 1."""
    if not one or not other:
        return 0.0
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for place, against in enumerate(other, start=1):
            before, row[place] = (
                row[place],
                before + 1 if word == against else max(row[place], row[place - 1]),
            )
    return 2 * row[-1] / (len(one) + len(other))


def is_like_any(text: Sequence[str], others: Sequence[Sequence[str]], threshold: float) -> bool:
    """Whether ROUGE-L with one of the others is above the threshold.

    Pairs whose lengths alone rule that out are not compared: F is at most 2 min / sum.
    """
    for other in others:
        bound = 2 * min(len(text), len(other)) / max(1, len(text) + len(other))
        if bound > threshold and rouge_l(text, other) > threshold:
            return True
    return False

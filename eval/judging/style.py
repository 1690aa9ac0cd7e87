"""The style of an answer: its length and its markdown, as Arena-Hard's style control counts it."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

STYLE_FEATURES = ("length", "headers", "lists", "bold")
_CODE_BLOCK = re.compile(r"```[^`]*```")
_HEADERS = re.compile(r"^#{1,6}\s", re.MULTILINE)
_LISTS = re.compile(r"^\s*(?:\d+\.|[-*+])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


def style_counts(answer: str) -> tuple[int, int, int, int]:
    """Characters, headers, list items and bold spans; markdown inside code does not count.

    The published script counts tokens of GPT-4o's tokenizer; that is not at hand offline, and the
    ratio of lengths hardly depends on the unit.
    """
    text = _CODE_BLOCK.sub("", answer)
    return (
        len(answer),
        len(_HEADERS.findall(text)),
        len(_LISTS.findall(text)),
        len(_BOLD.findall(text)),
    )


def style_difference(answer: str, baseline: str) -> NDArray[np.float64]:
    """(a - b) / (a + b + 1) for each of STYLE_FEATURES."""
    a = np.array(style_counts(answer), dtype=np.float64)
    b = np.array(style_counts(baseline), dtype=np.float64)
    return (a - b) / (a + b + 1.0)

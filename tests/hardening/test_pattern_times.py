"""No text of 20,000 characters takes a regular expression 0.4 seconds of CPU time."""

import re
from functools import partial

import pytest

from tests.hardening.patterns import Used, cpu_limited, texts, used_patterns

PACKAGES = ("wrpo", "data_construction", "eval")
LONG, LIMIT_S = 20_000, 0.4
SHORTER = {
    "wrpo.rewards.mathematics.clean": 100,  # an answer of at most LONGEST_ANSWER characters
    "wrpo.rewards.mathematics.answers": 100,
    "eval.reporting.charts": 0,  # what matplotlib wrote
}
"""The longest texts that a module's patterns get."""


def slow_text(used: Used) -> str | None:
    """The beginning of the first text that takes longer, or None."""
    longest = SHORTER.get(re.split(r"[.:](?:_?[A-Z]|\d)", used.place)[0], LONG)
    for text in texts(used.pattern, longest):
        if cpu_limited(LIMIT_S, partial(used.run, text)) > LIMIT_S:
            return text[:60]
    return None


@pytest.mark.slow
def test_no_pattern_of_the_packages_takes_long() -> None:
    found = {
        f"{used.place} {used.method} {used.pattern.pattern[:80]}": text
        for used in used_patterns(PACKAGES)
        if (text := slow_text(used)) is not None
    }
    assert found == {}


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"^\s*x", "finditer"),
        (r"(\d+\.?\d*)\]", "search"),
        (r"(?:a+)+b", "fullmatch"),
        (r"\s*\n\s*", "finditer"),
    ],
)
def test_slow_patterns_are_found(pattern: str, method: str) -> None:
    assert slow_text(Used("here", re.compile(pattern, re.M), method)) is not None

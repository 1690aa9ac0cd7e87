"""No text of 20,000 characters takes a regular expression a time that grows with its square."""

import re
from functools import cache, partial

import pytest

from tests.hardening.patterns import Used, cpu_limited, texts, used_patterns

PACKAGES = ("wrpo", "data_construction", "eval")
LONG = 20_000
SHORTER = {
    "wrpo.rewards.mathematics.clean": 100,  # an answer of at most LONGEST_ANSWER characters
    "wrpo.rewards.mathematics.answers": 100,
    "eval.reporting.charts": 0,  # what matplotlib wrote
}
"""The longest texts that a module's patterns get."""


@cache
def limit_s() -> float:
    """CPU seconds: half of what this machine needs for a simple pattern of quadratic time."""
    quadratic = Used("here", re.compile(r"^\s*x", re.M), "finditer")
    return min(cpu_limited(10.0, partial(quadratic.run, "\n" * LONG)) for _ in range(3)) / 2


def slow_text(used: Used) -> str | None:
    """The beginning of the first text that takes longer, or None."""
    longest = SHORTER.get(re.split(r"[.:](?:_?[A-Z]|\d)", used.place)[0], LONG)
    for text in texts(used.pattern, longest):
        if cpu_limited(limit_s(), partial(used.run, text)) > limit_s():
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
        (r"^\s*\w", "finditer"),
        (r"(\d+\.?\d*)\]", "search"),
        (r"(?:a+)+b", "fullmatch"),
        (r"\s*\n\s*", "finditer"),
    ],
)
def test_slow_patterns_are_found(pattern: str, method: str) -> None:
    assert slow_text(Used("here", re.compile(pattern, re.M), method)) is not None

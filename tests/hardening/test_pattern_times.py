"""No text takes a regular expression more than time in proportion to its length."""

import math
import re
from functools import partial

import pytest

from tests.hardening.patterns import Used, cpu_limited, texts, used_patterns

PACKAGES = ("wrpo", "data_construction", "eval")
SHORT, LONG = 4000, 100_000
SUSPECT_S, LIMIT_S = 0.004, 3.0
"""CPU time: for a short text, from which a long one is tried, and for a long text."""
SHORTER = {
    "wrpo.rewards.mathematics.clean": 1000,  # LONGEST: the answer, not the response
    "wrpo.rewards.mathematics.answers": 1000,
    "eval.reporting.charts": 0,  # what matplotlib wrote
}
"""The longest texts that a module's patterns get."""


def slowest(used: Used) -> tuple[float, str]:
    """CPU seconds of a long text, and its beginning; 0 where no short text is suspect."""
    longest = SHORTER.get(re.split(r"[.:](?:_?[A-Z]|\d)", used.place)[0], LONG)
    suspects = []
    for number, text in enumerate(texts(used.pattern, min(SHORT, longest))):
        act = partial(used.run, text)
        seconds = cpu_limited(LIMIT_S, act)
        if seconds > SUSPECT_S and (seconds := min(seconds, cpu_limited(LIMIT_S, act))) > SUSPECT_S:
            suspects.append((seconds, number))
            if seconds == math.inf:
                break
    longer = {number for _, number in sorted(suspects)[-3:]}
    found = [(0.0, "")]
    for number, text in enumerate(texts(used.pattern, longest) if longer else ()):
        if number in longer:
            found.append((cpu_limited(LIMIT_S, partial(used.run, text)), text[:60]))
            if found[-1][0] == math.inf:
                break
    return max(found)


@pytest.mark.slow
def test_every_pattern_of_the_packages_is_linear() -> None:
    found = {
        f"{used.place} {used.method} {used.pattern.pattern[:80]}": text
        for used in used_patterns(PACKAGES)
        for seconds, text in [slowest(used)]
        if seconds == math.inf
    }
    assert found == {}


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"^\s*x", "findall"),
        (r"<div[^>]*>", "search"),
        (r"(\d+\.?\d*)\]", "search"),
        (r"`[^`\n]*\([^`\n]*`", "search"),
        (r"(?:a+)+b", "fullmatch"),
        (r"\s*\n\s*", "sub"),
    ],
)
def test_slow_patterns_are_found(pattern: str, method: str) -> None:
    assert slowest(Used("here", re.compile(pattern, re.M), method))[0] == math.inf

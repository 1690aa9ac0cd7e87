"""Says in words what the comparisons show."""

from __future__ import annotations

import math

from eval.compare import Comparison
from eval.statistics import LEVEL


def sentence(comparison: Comparison, *, unit: str = "prompts") -> str:
    """One comparison as a sentence with its numbers.

    Args:
        unit: what the interval is over, prompts or seeds.
    """
    return (
        f"{_sentence_case(_claim(comparison))}: {_numbers(comparison, unit)}{_caution(comparison)}."
    )


def overview(comparisons: list[Comparison]) -> str:
    """One line: what the fused model is better than, worse than, and cannot be told apart from.

    Args:
        comparisons: at least one, of one metric.
    """
    fused = comparisons[0].fused
    parts = []
    for outcome, words in (
        (1, f"{fused} is better than"),
        (-1, f"{fused} is worse than"),
        (0, f"no difference shown between {fused} and"),
    ):
        labels = [c.label for c in comparisons if c.outcome == outcome]
        if labels:
            parts.append(f"{words} {_list(labels)}")
    return _sentence_case("; ".join(parts) + ".")


def _claim(comparison: Comparison) -> str:
    if comparison.outcome > 0:
        return f"{comparison.fused} is better than {comparison.label}"
    if comparison.outcome < 0:
        return f"{comparison.fused} is worse than {comparison.label}"
    return f"no difference shown between {comparison.fused} and {comparison.label}"


def _sentence_case(text: str) -> str:
    return text[0].upper() + text[1:]


def _numbers(comparison: Comparison, unit: str) -> str:
    e = comparison.estimate
    if math.isnan(e.low):
        why = f"one {unit.rstrip('s')}" if e.n == 1 else f"the same on all {e.n} {unit}"
        return f"{comparison.metric} {e.value:+.3f}, {why}, so no interval"
    return (
        f"{comparison.metric} {e.value:+.3f}, {LEVEL:.0%} interval {e.low:+.3f} to {e.high:+.3f}, "
        f"{e.n} {unit}"
    )


def _caution(comparison: Comparison) -> str:
    if not comparison.uncorrected:
        return ""
    return (
        " (the interval alone leaves out 0, but one of several comparisons does so by chance: "
        f"Holm's p = {comparison.holm_p:.2f})"
    )


def _list(words: list[str]) -> str:
    if len(words) == 1:
        return words[0]
    return ", ".join(words[:-1]) + " and " + words[-1]

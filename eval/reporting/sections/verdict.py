"""The verdict: in words, then the differences behind them."""

from __future__ import annotations

import math

from eval.reporting.charts import Chart, Range, range_chart
from eval.reporting.compare import Comparison
from eval.reporting.page import (
    BETTER,
    NOT_SHOWN,
    WORSE,
    Beside,
    Block,
    Details,
    Figures,
    Heading,
    Items,
    PageTable,
    Paragraph,
    ResponseOutcome,
)
from eval.reporting.sections.common import interval, p_value
from wrpo.statistics.estimates import LEVEL, SIGNIFICANCE
from wrpo.statistics.intervals import EXACT_BELOW

_NOTE = (
    "Differences are the fused model minus the other on the same prompts (paired), with Tango's "
    "interval for scores of 0 and 1 and a studentised bootstrap for others. A difference is shown "
    f"when its {LEVEL:.0%} interval leaves out 0 and its p, after Holm's correction for all "
    f"comparisons on the same metric, is below {SIGNIFICANCE:.2f}; where scores of 0 and 1 differ "
    f"on fewer than {EXACT_BELOW} prompts, p is that of the exact binomial test. “No difference "
    "shown” does not mean that the models are equal. Where two models differ on fewer than five "
    "prompts, Tango's interval is wider than it need be. The best single source is the one "
    "with the best mean on these prompts, which favours it slightly. All of this is one run with "
    "one training seed."
)
NOT_EVALUATED = "The fused model is not evaluated, so there is nothing to compare."
FEW = (
    " * Hardly any prompt has another score than the rest, so this interval (Student's t) may be "
    "too narrow."
)
MOST_NAMED = 8
"""Opponents with the same outcome that a sentence lists."""
_MARKS = {1: BETTER, -1: WORSE, 0: NOT_SHOWN}
_HUES = {1: 2, -1: 5, 0: 7}


def verdict(comparisons: list[list[Comparison]], missing: dict[str, str]) -> list[Block]:
    """Words first, then the numbers behind them; one list per task and metric."""
    blocks: list[Block] = [Heading("Verdict")]
    for same_metric in comparisons:
        blocks.append(Paragraph(verdict_words(same_metric, unit="prompts"), "lead"))
    for same_metric in comparisons:
        blocks.append(verdict_differences(same_metric))
    if comparisons:
        blocks += [Paragraph(_note(comparisons), "note"), _sentences(comparisons)]
    else:
        blocks.append(Paragraph(NOT_EVALUATED, "lead"))
    if missing:
        blocks.append(Paragraph("Not in this report, because not evaluated with these settings:"))
        lines = [f"{name}, {_state_and_command(text)}" for name, text in missing.items()]
        blocks.append(Items(lines))
    return blocks


def verdict_words(comparisons: list[Comparison], *, unit: str) -> str:
    """What the comparisons on one metric show, with the number of prompts or seeds."""
    first = comparisons[0]
    sizes = sorted({c.estimate.n for c in comparisons})
    size = " to ".join(dict.fromkeys([str(sizes[0]), str(sizes[-1])]))
    return f"On **{first.task}**, by **{first.metric}**, {size} {unit}: {overview(comparisons)}"


def verdict_differences(comparisons: list[Comparison]) -> Beside:
    """The comparisons on one metric as a table and a chart."""
    return Beside([difference_table(comparisons), Figures([difference_chart(comparisons)])])


def difference_table(comparisons: list[Comparison]) -> PageTable:
    """One row per comparison on a metric."""
    first = comparisons[0]
    rows = [
        [
            c.label,
            ResponseOutcome(_MARKS[c.outcome]),
            interval(c.estimate, signed=True),
            p_value(c.holm_p) + (" *" if c.estimate.few else ""),
        ]
        for c in comparisons
    ]
    header = [
        f"{first.task}, {first.metric}: {first.fused} against",
        f"{first.fused} is",
        f"difference [{LEVEL:.0%} interval]",
        "Holm's p",
    ]
    return PageTable(header, rows)


def difference_chart(comparisons: list[Comparison]) -> Chart:
    """The fused model minus each other."""
    first = comparisons[0]
    rows = [
        Range(c.other, c.estimate.low, c.estimate.value, c.estimate.high, colour=_HUES[c.outcome])
        for c in comparisons
    ]
    return range_chart(
        rows, title=f"{first.task}: {first.metric}, {first.fused} minus …", zero=True
    )


def _note(comparisons: list[list[Comparison]]) -> str:
    few = any(c.estimate.few for group in comparisons for c in group)
    return _NOTE + (FEW if few else "")


def _sentences(comparisons: list[list[Comparison]]) -> Details:
    texts = [sentence(comparison) for group in comparisons for comparison in group]
    return Details("The same in sentences", [Items(texts)])


def _state_and_command(text: str) -> str:
    """`state: command` with the command as code."""
    state, _, command = text.partition(": ")
    return f"{state}: `{command}`"


def sentence(comparison: Comparison, *, unit: str = "prompts") -> str:
    """One comparison as a sentence with its numbers.

    Args:
        unit: what the interval is over, prompts or seeds.
    """
    return (
        f"{_sentence_case(_claim(comparison))}: {_numbers(comparison, unit)}{_caution(comparison)}."
    )


def overview(comparisons: list[Comparison]) -> str:
    """One line: what the fused model is better than, worse than, and cannot be distinguished from.

    Args:
        comparisons: at least one, of one metric.
    """
    fused = comparisons[0].fused
    parts = []
    for outcome, verdict_words in (
        (1, f"{fused} is better than"),
        (-1, f"{fused} is worse than"),
        (0, f"no difference shown between {fused} and"),
    ):
        labels = [c.label for c in comparisons if c.outcome == outcome]
        if labels:
            parts.append(f"{verdict_words} {_list(labels)}")
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


def _list(labels: list[str]) -> str:
    if len(labels) > MOST_NAMED:
        return f"{len(labels)} others (table below)"
    if len(labels) == 1:
        return labels[0]
    return ", ".join(labels[:-1]) + " and " + labels[-1]

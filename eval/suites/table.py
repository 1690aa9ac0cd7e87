"""A suite as text."""

from __future__ import annotations

import textwrap
from typing import Any

from wrpo.recipe.suite import Entry, ExternalBenchmark, JudgeBenchmark, LMEvalBenchmark, Suite

_WORDS = {"exact": "comparable", "close": "close", "no": "not comparable"}
_WIDTH = 100


def suites_lines(suites: list[Suite]) -> list[str]:
    """One line per suite."""
    return [
        f"{suite.suite:12} v{suite.version}  {len(suite.benchmarks):2} benchmarks  {suite.about}"
        for suite in suites
    ]


def suite_lines(suite: Suite) -> list[str]:
    """A table of one suite, then its notes."""
    rows = [["benchmark", "run by", "task", "shots", "decoding", "metric", "with the papers"]]
    rows += [_row(name, entry) for name, entry in suite.benchmarks.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [f"{suite.suite}, version {suite.version}: {suite.about}", ""]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
    for name, entry in suite.benchmarks.items():
        lines += ["", name, *_notes(entry)]
    return lines


def decoding_text(decoding: dict[str, Any]) -> str:
    """Greedy or sampled, and how long."""
    length = next((v for k, v in decoding.items() if k in ("max_gen_toks", "max_tokens")), None)
    temperature = decoding.get("temperature") or 0
    if isinstance(temperature, str):
        how = "temperature by category"
    else:
        how = f"temperature {temperature}" if temperature else "greedy"
    return how if length is None else f"{how}, {length} tokens"


def _row(name: str, entry: Entry) -> list[str]:
    task = "" if isinstance(entry, ExternalBenchmark) else entry.task
    metric = entry.metric
    if isinstance(entry, LMEvalBenchmark) and entry.filter != "none":
        metric = f"{metric} ({entry.filter})"
    harness = "you" if isinstance(entry, ExternalBenchmark) else entry.harness
    decoding = decoding_text(entry.decoding)
    return [name, harness, task, str(entry.shots), decoding, metric, _WORDS[entry.comparable]]


def _notes(entry: Entry) -> list[str]:
    notes = [f"harness: {entry.version}", f"prompt: {entry.template}"]
    if isinstance(entry, JudgeBenchmark | ExternalBenchmark) and entry.judge:
        baseline = getattr(entry, "baseline", None)
        notes.append(f"judge: {entry.judge}" + (f"; baseline: {baseline}" if baseline else ""))
    notes.append(f"with the papers: {entry.why}")
    if entry.verified:
        notes.append(f"tried: {entry.verified}")
    if isinstance(entry, ExternalBenchmark):
        notes.append(f"run it yourself: {entry.run} ({entry.url})")
    return [
        line
        for note in notes
        for line in textwrap.wrap(
            note, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )
    ]

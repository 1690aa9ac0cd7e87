"""The papers' published numbers, and those of a run beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wrpo.benchmarks.shared.prompts import OWN, PUBLISHED
from wrpo.recipe import Recipe
from wrpo.recipe.evaluation import ONLY_VLLM, Eval
from wrpo.recipe.suite import (
    Entry,
    JudgeBenchmark,
    LMEvalBenchmark,
    decoding_fields,
    load_suite,
    shipped_suites,
)
from wrpo.statistics.estimates import Estimate

NUMBERS = Path(__file__).parent / "paper_numbers.yaml"
_WORDS = {"exact": "Comparable.", "close": "Close.", "no": "Not comparable."}
_OFF = {"top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
_OFF |= dict.fromkeys(ONLY_VLLM, 0.0)

PaperScores = dict[str, dict[str, dict[str, Estimate]]]
"""Task, metric, model."""


@dataclass(frozen=True)
class PaperRow:
    """One benchmark of a paper.

    Attributes:
        published: the paper's models to their numbers.
        task: what the run evaluated, empty where it did not.
        ours: model to its number on the paper's scale; empty where the run did not evaluate it.
        judge: whose verdicts our numbers are, for judged benchmarks.
        differs: what is the same and what differs, with "exact", "close" or "no" before it.
    """

    benchmark: str
    published: dict[str, float]
    task: str
    ours: dict[str, Estimate]
    judge: str
    differs: str


@dataclass(frozen=True)
class Paper:
    """A paper whose target is that of the run.

    Attributes:
        shown: those of its models that have a counterpart in a run.
        others: the rest of its table: model to its number per row.
    """

    title: str
    settings: str
    shown: list[str]
    rows: list[PaperRow]
    others: dict[str, list[float]]


@dataclass(frozen=True)
class JudgedNumbers:
    """What a run's judge says of a benchmark: metric to model; and who the judge is.

    Attributes:
        model: the judge's, as its server names it.
        prompt: where the judge prompt is from: own, published, or the name of a file.
        decoding: how the responses were drawn, as `judged_decoding`.
    """

    judge: str
    metrics: dict[str, dict[str, Estimate]]
    model: str
    prompt: str
    decoding: dict[str, Any]


def papers(recipe: Recipe, scores: PaperScores, judged: dict[str, JudgedNumbers]) -> list[Paper]:
    """The papers whose target model is the recipe's, with our numbers for the same benchmarks."""
    published: dict[str, Any] = yaml.safe_load(NUMBERS.read_text(encoding="utf-8"))
    return [
        _paper(facts, scores, judged, recipe.eval)
        for facts in published.values()
        if recipe.target.model in facts["targets"]
    ]


def _paper(
    facts: dict[str, Any], scores: PaperScores, judged: dict[str, JudgedNumbers], settings: Eval
) -> Paper:
    rows = []
    for place, (benchmark, metric, name) in enumerate(facts["rows"]):
        numbers = {model: facts["models"][model][place] for model in facts["shown"]}
        own = _judged_row(benchmark, metric, judged, facts["suite"], settings)
        own = own or _lm_eval_row(benchmark, scores, settings.limit)
        task, ours, judge, differs = own or ("", {}, "", _stated(benchmark, facts["suite"]))
        rows.append(PaperRow(name, numbers, task, ours, judge, differs))
    others = {name: row for name, row in facts["models"].items() if name not in facts["shown"]}
    return Paper(facts["title"], facts["settings"], facts["shown"], rows, others)


_Own = tuple[str, dict[str, Estimate], str, str]


def _judged_row(
    benchmark: str, metric: str, judged: dict[str, JudgedNumbers], suite: str, settings: Eval
) -> _Own | None:
    numbers = judged.get(benchmark)
    if numbers is None or metric not in numbers.metrics:
        return None
    stated = settings.judged.get(benchmark)
    limit = stated.limit if stated else None
    differs = _says_of_judged(load_suite(suite).judged()[benchmark], numbers, limit)
    return benchmark, numbers.metrics[metric], numbers.judge, differs


def _lm_eval_row(benchmark: str, scores: PaperScores, limit: int | None) -> _Own | None:
    """The first entry of our suites for this benchmark whose task the run has."""
    for suite in shipped_suites():
        for name, entry in load_suite(suite).lm_eval().items():
            if (entry.part_of or name) != benchmark or entry.task not in scores:
                continue
            found = _metric(scores[entry.task], entry)
            if found is not None:
                percent = {model: _percent(estimate) for model, estimate in found.items()}
                return entry.task, percent, "", _says(entry, _only_first(entry, limit))
    return None


def _metric(metrics: dict[str, dict[str, Estimate]], entry: LMEvalBenchmark) -> Any:
    return metrics.get(f"{entry.metric} ({entry.filter})") or metrics.get(entry.metric)


def _percent(estimate: Estimate) -> Estimate:
    return Estimate(
        100 * estimate.value,
        100 * estimate.low if math.isfinite(estimate.low) else math.nan,
        100 * estimate.high if math.isfinite(estimate.high) else math.nan,
        estimate.n,
        method=estimate.method,
    )


def _stated(benchmark: str, suite: str) -> str:
    entry = load_suite(suite).benchmarks.get(benchmark)
    return _says(entry) if entry is not None else ""


def _only_first(entry: Entry, limit: int | None) -> str:
    """What a limit on documents changes; empty where it changes nothing."""
    if limit is None or (entry.documents is not None and limit >= entry.documents):
        return ""
    return f"only the first {limit} questions"


def _says(entry: Entry, change: str = "") -> str:
    """What the suite says; a change of this run makes a number not comparable."""
    note = f" In this run: {change}." if change else ""
    return f"{_WORDS['no' if change else entry.comparable]} {entry.why}{note}"


def _says_of_judged(entry: JudgeBenchmark, numbers: JudgedNumbers, limit: int | None) -> str:
    """What the suite says, then how this run went about it, which may make it not comparable."""
    wanted = entry.judge.split()[0].rstrip(",")
    decoding = _other_decoding(decoding_fields(entry), numbers.decoding)
    changes = [
        f"judge {numbers.model}, not {wanted}" if numbers.model != wanted else "",
        "this toolkit's own judge prompt" if numbers.prompt == OWN else "",
        f"decoding other than stated: {decoding}" if decoding else "",
        _only_first(entry, limit),
    ]
    changed = "; ".join(change for change in changes if change)
    if not changed and numbers.prompt != PUBLISHED:
        return f"{_says(entry)} The judge prompt of {numbers.prompt} is taken as the published one."
    return _says(entry, changed)


def _other_decoding(stated: dict[str, Any], used: dict[str, Any]) -> str:
    """The fields in which the run's decoding is not the suite's; empty where it is."""
    here, there = ({**_OFF, **fields} for fields in (used, stated))
    changed = [name for name in {**used, **stated} if here.get(name) != there.get(name)]
    return ", ".join(f"{name} {here.get(name)} (not {there.get(name)})" for name in changed)

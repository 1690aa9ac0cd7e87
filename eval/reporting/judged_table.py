"""What judges said: results and verdicts of the judged benchmarks of a run.

A table holds the numbers of one judge with one judge prompt; other judges' numbers are another
table, never another row or column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.harness.results import EvaluatedSample, read_results, read_samples
from eval.reporting.board import Board, refuse_other_documents
from eval.reporting.evidence import Evidence
from eval.reporting.papers import JudgedNumbers
from wrpo.ids import digest
from wrpo.recipe.evaluation import BENCHMARKS
from wrpo.statistics.estimates import Estimate


@dataclass(frozen=True)
class JudgedTable:
    """One benchmark by one judge.

    Attributes:
        identity: the same for tables whose numbers are comparable: benchmark, judge, its prompt
            and the baseline.
        judge: name, model, version and sampling fields.
        results: results.json of each model.
        samples: a row per question of each model.
    """

    identity: str
    benchmark: str
    judge: dict[str, Any]
    results: dict[str, dict[str, Any]]
    samples: dict[str, list[EvaluatedSample]]

    @property
    def judge_name(self) -> str:
        """The judge's model and version."""
        version = self.judge.get("version")
        return f"{self.judge['model']}{f' ({version})' if version else ''}"

    @property
    def title(self) -> str:
        """Benchmark and judge."""
        return f"{self.benchmark}, judge {self.judge_name}"

    def metrics(self) -> dict[str, dict[str, Estimate]]:
        """Metric, then model: the benchmark's own numbers with the intervals of its protocol."""
        found: dict[str, dict[str, Estimate]] = {}
        for model, results in self.results.items():
            for name, metric in results["tasks"][self.benchmark]["metrics"].items():
                value, low, high = (_number(metric[field]) for field in ("value", "low", "high"))
                estimate = Estimate(value, low, high, metric["n"])
                found.setdefault(name.partition(",")[0], {})[model] = estimate
        return found

    def for_papers(self) -> JudgedNumbers:
        """The same numbers, with what decides how far they compare with the papers'."""
        first = next(iter(self.results.values()))
        return JudgedNumbers(
            self.judge_name,
            self.metrics(),
            model=self.judge["model"],
            prompt=first["judge_prompt"]["source"],
            decoding=first["tasks"][self.benchmark]["generation_kwargs"],
        )

    def board(self) -> Board | None:
        """Scores per question that all models share; None where there is nothing to compare."""
        metric = BENCHMARKS[self.benchmark].per_question
        by_model = {
            model: {sample.id: sample for sample in samples if metric in sample.values}
            for model, samples in self.samples.items()
        }
        if len(by_model) < 2:
            return None
        ids = sorted(set.intersection(*(set(samples) for samples in by_model.values())))
        if not ids:
            return None
        refuse_other_documents(
            self.benchmark,
            by_model,
            ids,
            same=lambda one, other: one.question == other.question,
            folders="responses/ and judge/",
        )
        values = [[[samples[i].values[metric]] for samples in by_model.values()] for i in ids]
        first = next(iter(by_model.values()))
        categories = [str(first[i].doc.get("category") or "") for i in ids]
        return Board(
            task=self.title,
            models=list(by_model),
            metrics=[metric],
            headline=[metric],
            ids=ids,
            values=np.array(values, dtype=np.float64),
            groups=categories if len(set(categories)) > 1 else [],
            lower_is_better=frozenset(),
            scale=BENCHMARKS[self.benchmark].scale,
            lengths={
                model: float(np.mean([len(samples[i].response) for i in ids]))
                for model, samples in by_model.items()
            },
        )


def judged_tables(evidence: Evidence) -> list[JudgedTable]:
    """All finished judgements of a run, those of each judge apart.

    Raises:
        DataError: a file is damaged.
    """
    tables: dict[str, JudgedTable] = {}
    for stage in evidence.pipeline.of_kind("judge"):
        folder = evidence.folders.get(stage.name)
        if folder is None:
            continue
        benchmark, model = stage.args["benchmark"], stage.args["model"]
        results = read_results(folder)
        key = digest([benchmark, results["judge"], results["judge_prompt"], results["baseline"]])
        table = tables.setdefault(key, JudgedTable(key, benchmark, results["judge"], {}, {}))
        table.results[model] = results
        table.samples[model] = read_samples(folder)
    return list(tables.values())


def for_papers(tables: list[JudgedTable]) -> dict[str, JudgedNumbers]:
    """The numbers by benchmark, where one judge alone scored it."""
    found: dict[str, list[JudgedTable]] = {}
    for table in tables:
        found.setdefault(table.benchmark, []).append(table)
    return {
        benchmark: several[0].for_papers()
        for benchmark, several in found.items()
        if len(several) == 1
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)

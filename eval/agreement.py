"""Compares two evaluations of one model: two backends, or `lm-eval` and this toolkit.

Reads   two folders, each eval/MODEL of a run, or what lm-eval wrote to --output_path with samples.
Writes  nothing; prints every metric of both, how many responses differ, and the first that does.
Run     python -m eval.agreement FOLDER FOLDER
Resume  nothing is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.harness.results import RESULTS, read_results, read_samples
from eval.reporting.sections.responses import shorten
from wrpo.cli import run_main
from wrpo.errors import DataError, MissingInputError

_SHOWN = 200

ResponseId = tuple[str, int]


@dataclass
class Evaluation:
    """What one evaluation found.

    Attributes:
        metrics: "task metric,filter" to value.
        responses: the model's text by task and number of the document.
        scores: metric to value of each document.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    responses: dict[ResponseId, str] = field(default_factory=dict)
    scores: dict[ResponseId, dict[str, float]] = field(default_factory=dict)


def main() -> None:
    """Prints the comparison; the exit code is 0 whatever it finds."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.agreement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("first", type=Path, metavar="FOLDER")
    parser.add_argument("second", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    lines = agreement(read_evaluation(args.first), read_evaluation(args.second))
    sys.stdout.write("\n".join(lines) + "\n")


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation in a folder of a run, or of lm-eval's own output.

    Raises:
        MissingInputError: neither is there.
        DataError: a file is damaged.
    """
    if (folder / RESULTS).is_file():
        return _ours(folder)
    found = sorted(folder.rglob("results_*.json"), key=lambda path: path.name.partition("_")[2])
    if not found:
        raise MissingInputError(
            f"{folder}: no {RESULTS} of this toolkit and no results_*.json of lm-eval; give the "
            "folder of a finished evaluation"
        )
    return _lm_evals(found[-1])


def agreement(first: Evaluation, second: Evaluation) -> list[str]:
    """The comparison as lines of text."""
    rows = [["metric", "first", "second", "difference"]]
    for name in [*first.metrics, *(n for n in second.metrics if n not in first.metrics)]:
        both = [found.metrics.get(name) for found in (first, second)]
        known = [value for value in both if value is not None]
        gap = f"{known[1] - known[0]:+.6g}" if len(known) == 2 else "only one"
        rows.append([name, *("" if v is None else f"{v:.6g}" for v in both), gap])
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return [*lines, "", *_response_lines(first, second)]


def _response_lines(first: Evaluation, second: Evaluation) -> list[str]:
    shared = sorted(first.responses.keys() & second.responses.keys())
    texts = [item for item in shared if first.responses[item] != second.responses[item]]
    scores = [item for item in shared if first.scores[item] != second.scores[item]]
    alone = len(first.responses.keys() ^ second.responses.keys())
    lines = [
        f"{len(shared)} documents in both, {alone} in one only; {len(texts)} responses and "
        f"{len(scores)} scores differ"
    ]
    if texts:
        task, number = texts[0]
        lines.append(f"first difference: {task}, document {number}")
        for found in (first, second):
            lines.append(f"  {shorten(found.responses[texts[0]], _SHOWN)!r}")
    return lines


def _ours(folder: Path) -> Evaluation:
    found = Evaluation()
    for task, facts in read_results(folder)["tasks"].items():
        for name, metric in facts["metrics"].items():
            if isinstance(metric["value"], float):
                found.metrics[f"{task} {name}"] = metric["value"]
    for sample in read_samples(folder):
        found.responses[sample.id] = sample.response
        found.scores[sample.id] = sample.values
    return found


def _lm_evals(results: Path) -> Evaluation:
    found = Evaluation()
    stamp = results.name.removeprefix("results_").removesuffix(".json")
    content = _json(results.read_text("utf-8"), results)
    for task in content["n-samples"]:
        for name, value in content["results"][task].items():
            metric, comma, _ = name.partition(",")
            if comma and not metric.endswith("_stderr") and isinstance(value, (int, float)):
                found.metrics[f"{task} {name}"] = float(value)
        path = results.with_name(f"samples_{task}_{stamp}.jsonl")
        if not path.is_file():
            raise MissingInputError(f"no {path}; run lm-eval with --log_samples")
        lines = path.read_text("utf-8").split("\n")
        _add_samples(found, task, [_json(line, path) for line in lines if line])
    return found


def _add_samples(found: Evaluation, task: str, rows: list[dict[str, Any]]) -> None:
    several = len({row["filter"] for row in rows}) > 1
    for row in rows:
        item = (task, int(row["doc_id"]))
        response = row["resps"][0][0]
        text = response if isinstance(response, str) else json.dumps(_numbers(row["resps"]))
        found.responses.setdefault(item, text)
        suffix = f" ({row['filter']})" if several else ""
        scores = found.scores.setdefault(item, {})
        for name in row["metrics"]:
            if isinstance(row[name], (int, float)):
                scores[name + suffix] = float(row[name])


def _numbers(value: Any) -> Any:
    """Log-likelihoods, which lm-eval writes as text, as numbers."""
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return value == "True" if value in ("True", "False") else float(value)


def _json(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not readable ({error}); evaluate again") from None


if __name__ == "__main__":
    run_main(main)

"""Judged questions, the metrics over them, and what a reader must know of the verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from wrpo.benchmarks.shared.questions import Question
from wrpo.errors import DataError
from wrpo.judging.request import Verdict


@dataclass(frozen=True)
class JudgedRecord:
    """One question, answered by a model and judged.

    Attributes:
        responses: the model's response per turn.
        games: what each verdict says, read; None where it cannot be read.
        values: metric name to value, of the metrics that are one number per question.
    """

    question: Question
    responses: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    games: tuple[float | None, ...]
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A number over all questions with a 95% interval; win rates are in percent.

    Attributes:
        n: questions that it is made of.
    """

    value: float
    low: float
    high: float
    n: int
    stderr: float = math.nan


@dataclass(frozen=True)
class Summary:
    """The metrics of one model, and what else a reader must know.

    Attributes:
        records: those given, where the summary adds a value per question.
    """

    metrics: dict[str, Metric]
    facts: dict[str, Any]
    records: list[JudgedRecord]


PERCENT = (0.0, 100.0)


def mean_metric(
    records: Sequence[JudgedRecord], name: str, scale: tuple[float, float] = PERCENT
) -> Metric:
    """The mean of one value per question, with a 95% interval over questions.

    Args:
        scale: lowest and highest value that a question can have.
    """
    import numpy as np

    from wrpo.statistics.estimates import means

    values = [record.values[name] for record in records if name in record.values]
    if not values:
        return Metric(math.nan, math.nan, math.nan, 0)
    array = np.array(values)
    (estimate,) = means(array[:, None], scale=scale)
    error = float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else math.nan
    return Metric(estimate.value, estimate.low, estimate.high, len(array), error)


def position_facts(pairs: Sequence[tuple[float | None, float | None]]) -> dict[str, Any]:
    """How the order of the two responses shows in the verdicts.

    Args:
        pairs: scores of the model in [0, 1], (shown first, shown second); None: not asked, or no
            verdict.

    Returns:
        first_share: of the verdicts that prefer one response, the share that prefers the first.
        flipped: of the questions judged in both orders, the share whose winner changes with it.
    """
    first = [score > 0.5 for score, _ in pairs if score is not None and score != 0.5]
    first += [score < 0.5 for _, score in pairs if score is not None and score != 0.5]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    flips = [(a - 0.5) * (b - 0.5) < 0 for a, b in both]
    return {
        "first_share": sum(first) / len(first) if first else None,
        "first_share_n": len(first),
        "flipped": sum(flips) / len(flips) if flips else None,
        "flipped_n": len(flips),
    }


def nothing_read(records: Sequence[JudgedRecord], what: str) -> DataError:
    """The error of a benchmark without one verdict.

    Args:
        what: the benchmark, and what its verdicts must hold.
    """
    verdict = next(verdict for record in records for verdict in record.verdicts)
    said = verdict.missing() or repr((verdict.text or "")[-200:])
    return DataError(
        f"{what}; the first reply: {said}. Cut and empty replies are asked for again when the same "
        "command runs again, with more max_tokens if the judge needs them; for others choose "
        "another judge or another prompt"
    )


def parse_facts(records: Sequence[JudgedRecord]) -> dict[str, Any]:
    """Verdicts asked for, and those that count for nothing, with examples."""
    games = [
        (verdict, game)
        for record in records
        for verdict, game in zip(record.verdicts, record.games, strict=True)
    ]
    refused = [verdict for verdict, _ in games if verdict.text is None]
    unread = [verdict for verdict, game in games if game is None and verdict.text is not None]
    cut = [verdict for verdict in unread if verdict.finish_reason == "length"]
    return {
        "verdicts": len(games),
        "parse_failures": len(unread),
        "cut_off": len(cut),
        "refused": len(refused),
        "examples": [(verdict.text or "")[-200:] for verdict in unread[:3]]
        + [verdict.detail[:200] for verdict in refused[:3]],
    }

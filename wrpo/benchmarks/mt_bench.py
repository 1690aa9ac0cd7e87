"""MT-Bench: two turns, each answer graded from 1 to 10 by itself.

The second turn is judged with the whole conversation; mathematics, reasoning and coding with
reference answers. Source: FastChat, llm_judge (Zheng et al., arXiv 2306.05685).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from wrpo.benchmarks.base import Metric, Record, Summary, mean_metric, parse_facts
from wrpo.benchmarks.questions import Question
from wrpo.benchmarks.templates import Templates
from wrpo.errors import DataError
from wrpo.judging import JudgeRequest, Verdict

_RATING = re.compile(r"\[\[(\d+\.?\d*)\]\]")
_RATING_BACKUP = re.compile(r"\[(\d+\.?\d*)\]")
_LOWEST, _HIGHEST = 1.0, 10.0


class MTBench:
    """The benchmark mt_bench."""

    metric = "score"

    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    def requests(self, question: Question, answers: tuple[str, ...]) -> list[JudgeRequest]:
        """One request per turn."""
        suffix = "_reference" if question.references else ""
        values = {"question": question.turns[0], "answer": answers[0]}
        for turn in (0, 1):
            values[f"question_{turn + 1}"] = question.turns[turn]
            values[f"answer_{turn + 1}"] = answers[turn]
            if question.references:
                values[f"ref_answer_{turn + 1}"] = question.references[turn]
        templates = [self._templates[f"{part}{suffix}"] for part in ("single", "multi")]
        return [
            JudgeRequest(template.fill(**values), template=template.name) for template in templates
        ]

    def read(
        self, question: Question, answers: tuple[str, ...], verdicts: Sequence[Verdict]
    ) -> Record:
        """The rating of each turn."""
        games = tuple(rating(verdict) for verdict in verdicts)
        values = {
            f"turn_{turn}": game for turn, game in enumerate(games, start=1) if game is not None
        }
        if values:
            values["score"] = sum(values.values()) / len(values)
        return Record(question, answers, tuple(verdicts), games, values)

    def summarise(self, records: list[Record]) -> Summary:
        """The mean of all ratings, of each turn, and of each category.

        Raises:
            DataError: not one verdict could be read.
        """
        ratings = [game for record in records for game in record.games if game is not None]
        if not ratings:
            raise DataError("mt_bench: none of the verdicts holds a rating like [[7]]")
        by_question = mean_metric(records, "score")
        metrics = {
            "score": Metric(
                float(np.mean(ratings)),
                by_question.low,
                by_question.high,
                by_question.n,
                by_question.stderr,
            ),
            "turn_1": mean_metric(records, "turn_1"),
            "turn_2": mean_metric(records, "turn_2"),
        }
        categories: dict[str, list[float]] = defaultdict(list)
        for record in records:
            categories[record.question.category] += [g for g in record.games if g is not None]
        means = {name: float(np.mean(values)) for name, values in categories.items() if values}
        facts = {
            **parse_facts(records),
            "categories": means,
            "mean_characters": float(np.mean([len("".join(r.answers)) for r in records])),
        }
        return Summary(metrics, facts, records)


def rating(verdict: Verdict) -> float | None:
    """The number in [[ ]], or in [ ]; None without one from 1 to 10."""
    text = verdict.text or ""
    match = _RATING.search(text) or _RATING_BACKUP.search(text)
    if match is None:
        return None
    value = float(match[1])
    return value if _LOWEST <= value <= _HIGHEST else None

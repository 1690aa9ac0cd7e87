"""Arena-Hard v0.1: five-way verdicts in both orders, Bradley-Terry win rate against a baseline.

A clear verdict ([[A>>B]]) counts three times. The published script asks a judge that names no
label to go on; here such a verdict is counted as a parse failure.

Source: lmarena/arena-hard-auto (Li et al., arXiv 2406.11939).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wrpo.benchmarks.base import Metric, Record, Summary, mean_metric, parse_facts, position_facts
from wrpo.benchmarks.questions import Question
from wrpo.benchmarks.templates import Templates
from wrpo.errors import DataError
from wrpo.judging import JudgeRequest, Verdict
from wrpo.statistics.bradley_terry import (
    Battles,
    published_interval,
    question_interval,
    style_controlled,
    style_interval,
)

_VERDICT = re.compile(r"\[\[([AB<>=]+)\]\]")
# Score of B on a scale where clear verdicts lie outside 0 to 1, and what it means.
_LABELS = {
    "A>>B": -1.0,
    "A>B": 0.0,
    "A=B": 0.5,
    "B>A": 1.0,
    "B>>A": 2.0,
    "B<<A": -1.0,
    "B<A": 0.0,
    "B=A": 0.5,
    "A<B": 1.0,
    "A<<B": 2.0,
}
_CLEAR = 3.0


class ArenaHard:
    """The benchmark arena_hard.

    Args:
        both_orders: as published; else the baseline is always shown first.
    """

    metric = "winrate"

    def __init__(self, templates: Templates, *, both_orders: bool) -> None:
        self._template = templates["pair"]
        self._orders = (False, True) if both_orders else (False,)

    def requests(self, question: Question, answers: tuple[str, ...]) -> list[JudgeRequest]:
        """The baseline first, then the model first."""
        requests = []
        for model_first in self._orders:
            shown = (answers[0], question.references[0])
            first, second = shown if model_first else reversed(shown)
            messages = self._template.fill(
                question_1=question.turns[0],
                answer_1=first,
                answer_2=second,
                QUESTION=question.turns[0],
                ANSWER_A=first,
                ANSWER_B=second,
            )
            requests.append(JudgeRequest(messages, template=self._template.name))
        return requests

    def read(
        self, question: Question, answers: tuple[str, ...], verdicts: Sequence[Verdict]
    ) -> Record:
        """Games from -1 (clearly lost) to 2 (clearly won); the value is the weighted percentage."""
        games: list[float | None] = []
        for model_first, verdict in zip(self._orders, verdicts, strict=True):
            score = score_of_second(verdict)
            games.append(score if score is None or not model_first else 1.0 - score)
        played = [game for game in games if game is not None]
        values = {}
        if played:
            weights = [_weight(game) for game in played]
            won = sum(_score(game) * _weight(game) for game in played)
            values = {"question_winrate": 100 * won / sum(weights)}
        return Record(question, answers, tuple(verdicts), tuple(games), values)

    def summarise(self, records: list[Record]) -> Summary:
        """Bradley-Terry win rate, the same at equal style, and the mean over questions.

        Raises:
            DataError: not one verdict could be read.
        """
        battles, style = _battles(records)
        if not len(battles.score):
            raise DataError("arena_hard: none of the verdicts names a label like [[A>B]]")
        rate, (low, high) = battles.win_rate(), question_interval(battles)
        controlled, effects = style_controlled(battles, style)
        style_low, style_high = style_interval(battles, style)
        n = len(np.unique(battles.question))
        metrics = {
            "winrate": Metric(100 * rate, 100 * low, 100 * high, n),
            "style_controlled_winrate": Metric(
                100 * controlled, 100 * style_low, 100 * style_high, n
            ),
            "question_winrate": mean_metric(records, "question_winrate"),
        }
        published = [100 * bound for bound in published_interval(battles)]
        facts = {
            **parse_facts(records),
            "position": position_facts([_both(record.games) for record in records]),
            "both_orders": len(self._orders) == 2,
            "battles": int(battles.weight.sum()),
            "published_interval": {"low": published[0], "high": published[1], "rounds": 100},
            "style_weights": dict(zip(STYLE_FEATURES, effects.tolist(), strict=True)),
            "style_length_unit": "characters",
            "mean_characters": float(np.mean([len(record.answers[0]) for record in records])),
        }
        return Summary(metrics, facts, records)


def score_of_second(verdict: Verdict) -> float | None:
    """The score of assistant B: -1, 0, 0.5, 1 or 2; None without one clear label."""
    labels = set(_VERDICT.findall(verdict.text or ""))
    return _LABELS.get(labels.pop()) if len(labels) == 1 else None


def _battles(records: Sequence[Record]) -> tuple[Battles, np.ndarray]:
    scores, weights, numbers, styles = [], [], [], []
    for place, record in enumerate(records):
        difference = style_difference(record.answers[0], record.question.references[0])
        for game in record.games:
            if game is not None:
                scores.append(_score(game))
                weights.append(_weight(game))
                numbers.append(place)
                styles.append(difference)
    battles = Battles(np.array(scores), np.array(weights), np.array(numbers, dtype=np.int64))
    return battles, np.array(styles).reshape(len(scores), len(STYLE_FEATURES))


def _both(games: tuple[float | None, ...]) -> tuple[float | None, float | None]:
    """(model first, model second), each in [0, 1]."""
    scores = [None if game is None else _score(game) for game in games]
    return (scores[1] if len(scores) > 1 else None), scores[0]


def _score(game: float) -> float:
    return min(1.0, max(0.0, game))


def _weight(game: float) -> float:
    return _CLEAR if math.fabs(game - 0.5) > 1.0 else 1.0


STYLE_FEATURES = ("length", "headers", "lists", "bold")
_CODE_BLOCK = re.compile(r"```[^`]*```")
_HEADERS = re.compile(r"^#{1,6}\s", re.MULTILINE)
_LISTS = re.compile(r"^\s*(?:\d+\.|[-*+])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


def style_counts(answer: str) -> tuple[int, int, int, int]:
    """Characters, headers, list items and bold spans; markdown inside code does not count.

    The published script counts tokens of GPT-4o's tokenizer; that is not at hand offline, and the
    ratio of lengths hardly depends on the unit.
    """
    text = _CODE_BLOCK.sub("", answer)
    return (
        len(answer),
        len(_HEADERS.findall(text)),
        len(_LISTS.findall(text)),
        len(_BOLD.findall(text)),
    )


def style_difference(answer: str, baseline: str) -> NDArray[np.float64]:
    """(a - b) / (a + b + 1) for each of STYLE_FEATURES."""
    a = np.array(style_counts(answer), dtype=np.float64)
    b = np.array(style_counts(baseline), dtype=np.float64)
    return (a - b) / (a + b + 1.0)

"""AlpacaEval 2: win rate against a baseline, weighted by the judge's log-probs.

One verdict per instruction, the order of the answers drawn by a hash of the instruction, or both
orders. The preference is the probability of the model's label among the two labels, read from the
first token. Where a judge gives no log-probs the label that it wrote counts as 0 or 1.

Source: tatsu-lab/alpaca_eval, annotator weighted_alpaca_eval_gpt4_turbo.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wrpo.benchmarks.base import Metric, Record, Summary, mean_metric, parse_facts, position_facts
from wrpo.benchmarks.questions import Question
from wrpo.benchmarks.templates import Templates
from wrpo.errors import DataError
from wrpo.ids import unit_hash
from wrpo.judging import JudgeRequest, Verdict
from wrpo.statistics.length_control import length_controlled, read_gamed

FIRST, SECOND = "m", "M"
_LABEL = re.compile(r"(?<![A-Za-z'])[mM](?![A-Za-z'])")
_TOP_LOGPROBS = 5
_Z = 1.959963984540054


class AlpacaEval:
    """The benchmark alpaca_eval_2.

    Args:
        both_orders: ask once with each answer first; the mean counts.
        logprobs: ask for one token with log-probs, as published; else for a verdict as text.
        gamed: df_gamed.csv, for the length-controlled win rate.
    """

    metric = "length_controlled_winrate"

    def __init__(
        self, templates: Templates, *, both_orders: bool, logprobs: bool, gamed: Path
    ) -> None:
        self._template = templates["pair"]
        self._both = both_orders
        self._logprobs = logprobs
        self._gamed = read_gamed(gamed)

    def requests(self, question: Question, answers: tuple[str, ...]) -> list[JudgeRequest]:
        """One request per order."""
        return [self._request(question, answers[0], first) for first in self._orders(question)]

    def _request(self, question: Question, answer: str, model_first: bool) -> JudgeRequest:
        baseline = question.references[0]
        messages = self._template.fill(
            instruction=question.turns[0],
            output_1=answer if model_first else baseline,
            output_2=baseline if model_first else answer,
        )
        if not self._logprobs:
            return JudgeRequest(messages, self._template.name)
        # Temperature 1 as published: log-probs do not depend on it, and a label that is drawn
        # from them is right on average.
        return JudgeRequest(
            messages,
            self._template.name,
            max_tokens=1,
            temperature=1.0,
            top_logprobs=_TOP_LOGPROBS,
        )

    def read(
        self, question: Question, answers: tuple[str, ...], verdicts: Sequence[Verdict]
    ) -> Record:
        """The preferences for the model in [0, 1]; the value is their mean in percent."""
        games = []
        for model_first, verdict in zip(self._orders(question), verdicts, strict=True):
            second = preference_for_second(verdict)
            games.append(second if second is None or not model_first else 1.0 - second)
        read = [game for game in games if game is not None]
        values = {}
        if read:
            mean = sum(read) / len(read)
            values = {"winrate": 100 * mean, "discrete_winrate": 100 * _discrete(mean)}
        return Record(question, answers, tuple(verdicts), tuple(games), values)

    def summarise(self, records: list[Record]) -> Summary:
        """Win rate, discrete win rate and length-controlled win rate.

        The interval of the last is that of its own standard error, which knows the spread of
        predictions over instructions and not the uncertainty of the fit.

        Raises:
            DataError: not one verdict could be read, or no length differs.
        """
        if not any("winrate" in record.values for record in records):
            raise DataError("alpaca_eval_2: none of the verdicts names one of the labels m and M")
        controlled = length_controlled(
            np.array([record.values.get("winrate", math.nan) for record in records]) / 100,
            model_lengths=np.array([float(len(record.answers[0])) for record in records]),
            baseline_lengths=np.array([float(len(r.question.references[0])) for r in records]),
            numbers=[record.question.number for record in records],
            gamed=self._gamed,
        )
        records = [
            dataclasses.replace(r, values={**r.values, self.metric: 100 * float(prediction)})
            for r, prediction in zip(records, controlled.predictions, strict=True)
        ]
        half = _Z * controlled.standard_error
        rate = controlled.win_rate
        metrics = {
            self.metric: Metric(
                rate, rate - half, rate + half, len(records), controlled.standard_error
            ),
            "winrate": mean_metric(records, "winrate"),
            "discrete_winrate": mean_metric(records, "discrete_winrate"),
        }
        return Summary(metrics, self._facts(records, controlled.weights), records)

    def _facts(
        self, records: list[Record], weights: tuple[float, float, float]
    ) -> dict[str, object]:
        pairs = []
        for record in records:
            order = dict(zip(self._orders(record.question), record.games, strict=True))
            pairs.append((order.get(True), order.get(False)))
        weighted = sum(bool(verdict.top_logprobs) for r in records for verdict in r.verdicts)
        verdicts = sum(len(record.verdicts) for record in records)
        return {
            **parse_facts(records),
            "position": position_facts(pairs),
            "both_orders": self._both,
            "weighted_by_logprobs": weighted,
            "read_as_text": verdicts - weighted,
            "length_control_weights": dict(
                zip(("length", "difficulty", "model"), weights, strict=True)
            ),
            "mean_characters": float(np.mean([len(record.answers[0]) for record in records])),
        }

    def _orders(self, question: Question) -> tuple[bool, ...]:
        """Whether the model's answer is shown first, for each request."""
        first = unit_hash(0, question.turns[0]) < 0.5
        return (first, not first) if self._both else (first,)


def preference_for_second(verdict: Verdict) -> float | None:
    """P(second label) / (P(first label) + P(second label)); None without either label."""
    if verdict.text is None:
        return None
    if not verdict.top_logprobs:
        labels = set(_LABEL.findall(verdict.text))
        return float(labels == {SECOND}) if len(labels) == 1 else None
    exact = verdict.top_logprobs[0]
    # Some tokenizers write the label with a space before it.
    alternatives = exact if {FIRST, SECOND} & exact.keys() else _stripped(exact)
    first, second = (math.exp(alternatives.get(label, -math.inf)) for label in (FIRST, SECOND))
    return second / (first + second) if first + second > 0 else None


def _stripped(alternatives: dict[str, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for token, logprob in alternatives.items():
        found[token.strip()] = float(np.logaddexp(found.get(token.strip(), -math.inf), logprob))
    return found


def _discrete(preference: float) -> float:
    return 0.5 if preference == 0.5 else float(preference > 0.5)

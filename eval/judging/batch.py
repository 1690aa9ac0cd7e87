"""All judgements of one model on one benchmark: requests, reading, results.

results.json has the shape of lm-eval's results here (`tasks`, `metrics` under "name,none"), and the
samples have that of its samples, so that one report reads both.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from eval.harness.results import SAMPLES
from wrpo.benchmarks.shared.questions import Question
from wrpo.benchmarks.shared.records import JudgedRecord, Metric, Summary
from wrpo.errors import DataError
from wrpo.ids import digest
from wrpo.judging import Judge, JudgeRequest
from wrpo.pipeline.tables import Row, read_rows
from wrpo.recipe.evaluation import Eval
from wrpo.recipe.suite import judged_decoding

__all__ = ["SAMPLES", "JudgeBatch"]


class JudgeBatch:
    """The judging of one model.

    Args:
        name: the benchmark.
        settings: the `eval:` section of the recipe.
        model: the model's name in the run.
        responses: finished folder of its responses.

    Raises:
        MissingInputError: a file of the benchmark is not there.
        DataError: a file is wrong, or the responses are to other questions.
        RecipeError: the judge prompt is not usable.
    """

    def __init__(self, name: str, settings: Eval, model: str, responses: Path) -> None:
        self.name = name
        self._settings = settings.judged[name]
        self._decoding = judged_decoding(settings, name)
        self._model = model
        self._rows = sorted(read_rows(responses), key=lambda row: row["number"])
        self._questions = _matching(self._settings.load_questions(), self._rows, responses)
        self._templates = self._settings.load_templates()
        self._protocol = self._settings.protocol(self._templates)
        self._responses = [tuple(row["responses"]) for row in self._rows]
        self._requests = [
            self._protocol.requests(question, given)
            for question, given in zip(self._questions, self._responses, strict=True)
        ]

    @property
    def requests(self) -> list[JudgeRequest]:
        """Everything the judge is asked, question by question."""
        return [request for requests in self._requests for request in requests]

    def judged(self, judge: Judge) -> tuple[dict[str, Any], list[Row]]:
        """Asks, reads and summarises: the content of results.json, and the samples.

        Raises:
            RecipeError, ModelError: see `Judge.ask`.
            DataError: no verdict can be read.
        """
        verdicts = iter(judge.ask(self.requests))
        records = [
            self._protocol.read(question, given, [next(verdicts) for _ in requests])
            for question, given, requests in zip(
                self._questions, self._responses, self._requests, strict=True
            )
        ]
        summary = self._protocol.summarise(records)
        return self._results(judge, summary), [self._sample(record) for record in summary.records]

    def _results(self, judge: Judge, summary: Summary) -> dict[str, Any]:
        facts = summary.facts
        verdicts = [verdict for record in summary.records for verdict in record.verdicts]
        cost = {
            **dataclasses.asdict(judge.used),
            "tokens_with_cached": {
                "input": sum(verdict.input_tokens for verdict in verdicts),
                "output": sum(verdict.output_tokens for verdict in verdicts),
            },
        }
        return {
            "tasks": {
                self.name: {
                    "n": len(summary.records),
                    "metrics": {f"{k},none": _metric(m) for k, m in summary.metrics.items()},
                    "main_metric": self._settings.metric,
                    "documents": digest([list(q.turns) for q in self._questions]),
                    "generation_kwargs": self._decoding,
                }
            },
            "groups": {},
            "judge": judge.identity,
            "judge_prompt": self._templates.facts(),
            "baseline": self._settings.baseline,
            "verdicts": facts.pop("verdicts"),
            "parse_failures": facts.pop("parse_failures"),
            "refused": facts.pop("refused"),
            "unread_examples": facts.pop("examples"),
            "position": facts.pop("position", None),
            "protocol": facts,
            "cost": cost,
            "truncated_responses": self._truncated(),
            "model": {"name": self._model},
        }

    def _truncated(self) -> int:
        """Responses that are as long as they may be."""
        limit = self._decoding["max_tokens"]
        return sum(tokens >= limit for row in self._rows for tokens in row["tokens"])

    def _sample(self, record: JudgedRecord) -> Row:
        question = record.question
        doc = {
            "question_id": question.id,
            "category": question.category,
            "games": list(record.games),
            "verdicts": [verdict.text for verdict in record.verdicts],
        }
        texts = [verdict.text or verdict.detail for verdict in record.verdicts]
        return {
            "task": self.name,
            "doc_id": question.number,
            "filter": "none",
            "doc": json.dumps(doc, ensure_ascii=False),
            "question": "\n\n".join(question.turns),
            "prompt": question.turns[0],
            "response": "\n\n".join(record.responses),
            "filtered": json.dumps(texts, ensure_ascii=False),
            "target": "\n\n".join(question.references),
            "metrics": [{"name": name, "value": value} for name, value in record.values.items()],
        }


def _matching(questions: list[Question], rows: list[Row], responses: Path) -> list[Question]:
    """The questions of the responses; refuses a question file that has changed since."""
    asked = [(row["question_id"], tuple(row["questions"])) for row in rows]
    if asked != [(question.id, question.turns) for question in questions]:
        raise DataError(
            f"{responses}: responses to other questions than the question file now holds; delete "
            "the folder and generate them again, or restore the file"
        )
    return questions


def _metric(metric: Metric) -> dict[str, Any]:
    fields = dataclasses.asdict(metric)
    plain = {name: None if math.isnan(value) else value for name, value in fields.items()}
    return {**plain, "higher_is_better": True}

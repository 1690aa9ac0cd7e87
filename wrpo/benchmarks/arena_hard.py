"""Arena-Hard v0.1: five-way verdicts in both orders, Bradley-Terry win rate against a baseline.

A clear verdict ([[A>>B]]) counts three times. The published script asks a judge that names no
label to go on; here such a verdict is counted as a parse failure. It takes a reply with different
labels for none; here the last one counts, unless two stand side by side.

Source: lmarena/arena-hard-auto (Li et al., arXiv 2406.11939).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Literal

import yaml
from pydantic import Field

from wrpo.benchmarks.base import BenchmarkSettings, Calls, one_per_order
from wrpo.benchmarks.shared.files import HubFile, read_records
from wrpo.benchmarks.shared.prompts import JudgePromptParts, Templates
from wrpo.benchmarks.shared.questions import (
    Question,
    label,
    question_id,
    question_turns,
    with_references,
)
from wrpo.benchmarks.shared.records import (
    JudgedRecord,
    Metric,
    Summary,
    mean_metric,
    nothing_read,
    parse_facts,
    position_facts,
)
from wrpo.judging.reading import label_form
from wrpo.judging.request import JudgeRequest, Verdict

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from wrpo.statistics.bradley_terry import Battles

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
_FORM = label_form(_LABELS)
_CLEAR = 3.0
_HUB, _FOLDER = "lmarena-ai/arena-hard-auto", "data/arena-hard-v0.1"

_SYSTEM = (
    "You judge two assistants, A and B, who answered the same user. First work out by "
    "yourself what a good response needs. Then go through both responses: what is wrong or "
    "missing in each, whether it helps with what was asked, and whether it says more than "
    "is needed. The order of the responses and their length must not sway you. Close with "
    "exactly one of these labels, in double square brackets: [[A>>B]] if A is much better, "
    "[[A>B]] if A is a little better, [[A=B]] if they are about equal, [[B>A]] if B is a "
    "little better, [[B>>A]] if B is much better."
)
_USER = """\
# What the user wrote

<question-{tag}>
{question_1}
</question-{tag}>

# Response of assistant A

<response-{tag}>
{answer_1}
</response-{tag}>

# Response of assistant B

<response-{tag}>
{answer_2}
</response-{tag}>\
"""


class ArenaHardSettings(BenchmarkSettings):
    """Arena-Hard v0.1 (arXiv 2406.11939): verdicts against the responses of a baseline."""

    benchmark: Literal["arena_hard"] = "arena_hard"
    references: Path | None = Field(
        None, description="File with the baseline's responses; unset: from the hub."
    )
    both_orders: bool = Field(True, description="Ask once with each response first.")

    metric = "winrate"
    per_question = "question_winrate"
    baseline = "gpt-4-0314"
    hub_files: ClassVar = {
        "questions": HubFile(_HUB, "dataset", f"{_FOLDER}/question.jsonl"),
        "references": HubFile(_HUB, "dataset", f"{_FOLDER}/model_answer/gpt-4-0314.jsonl"),
    }
    own_prompt: ClassVar = {"pair": {"system": _SYSTEM, "user": _USER}}
    published_prompt = (
        "config/judge_config.yaml of github.com/lmarena/arena-hard-auto, release v0.1"
    )

    def read_questions(self, path: Path) -> list[Question]:
        """Questions of either published form, with the baseline's responses."""
        questions = [
            Question(
                id=question_id(record),
                number=n,
                category=label(record.get("cluster", record.get("category"))),
                turns=question_turns(record),
            )
            for n, record in enumerate(read_records(path))
        ]
        return with_references(questions[: self.limit], self.locate("references"))

    def read_prompt(self, path: Path) -> JudgePromptParts:
        """The system prompt and the first template of judge_config.yaml."""
        config = yaml.safe_load(path.read_text("utf-8"))
        user = config["prompt_template"]
        first = user if isinstance(user, str) else user[0]
        return {"pair": [("system", config["system_prompt"]), ("user", first)]}

    def calls(self) -> Calls:
        """One per order."""
        return one_per_order(both_orders=self.both_orders)

    def protocol(self, templates: Templates) -> ArenaHard:
        """In the orders that the recipe asks for."""
        return ArenaHard(templates, both_orders=self.both_orders)


class ArenaHard:
    """The benchmark arena_hard.

    Args:
        both_orders: as published; else the baseline is always shown first.
    """

    def __init__(self, templates: Templates, *, both_orders: bool) -> None:
        self._template = templates["pair"]
        self._orders = (False, True) if both_orders else (False,)

    def requests(self, question: Question, responses: tuple[str, ...]) -> list[JudgeRequest]:
        """The baseline first, then the model first."""
        requests = []
        for model_first in self._orders:
            shown = (responses[0], question.references[0])
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
        self, question: Question, responses: tuple[str, ...], verdicts: Sequence[Verdict]
    ) -> JudgedRecord:
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
        return JudgedRecord(question, responses, tuple(verdicts), tuple(games), values)

    def summarise(self, records: list[JudgedRecord]) -> Summary:
        """Bradley-Terry win rate, the same at equal style, and the mean over questions.

        Raises:
            DataError: not one verdict could be read.
        """
        import numpy as np

        from wrpo.statistics.bradley_terry import (
            published_interval,
            question_interval,
            style_controlled,
            style_interval,
        )

        battles, style = _battles(records)
        if not len(battles.score):
            raise nothing_read(
                records, "arena_hard: none of the verdicts names a label like [[A>B]]"
            )
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
            "mean_characters": fmean(len(record.responses[0]) for record in records),
        }
        return Summary(metrics, facts, records)


def score_of_second(verdict: Verdict) -> float | None:
    """The score of assistant B: -1, 0, 0.5, 1 or 2; None where the reply has no verdict."""
    score = _FORM.read(verdict)
    return score if isinstance(score, float) else None


def _battles(records: Sequence[JudgedRecord]) -> tuple[Battles, np.ndarray]:
    import numpy as np

    from wrpo.statistics.bradley_terry import Battles

    scores, weights, numbers, styles = [], [], [], []
    for place, record in enumerate(records):
        difference = style_difference(record.responses[0], record.question.references[0])
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
_LISTS = re.compile(r"^[^\S\n]*(?:\d+\.|[-*+])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


def style_counts(response: str) -> tuple[int, int, int, int]:
    """Characters, headers, list items and bold spans; markdown inside code does not count.

    The published script counts tokens of GPT-4o's tokenizer; that is not at hand offline, and the
    ratio of lengths hardly depends on the unit.
    """
    text = _CODE_BLOCK.sub("", response)
    return (
        len(response),
        len(_HEADERS.findall(text)),
        len(_LISTS.findall(text)),
        len(_BOLD.findall(text)),
    )


def style_difference(response: str, baseline: str) -> NDArray[np.float64]:
    """(a - b) / (a + b + 1) for each of STYLE_FEATURES."""
    import numpy as np

    a = np.array(style_counts(response), dtype=np.float64)
    b = np.array(style_counts(baseline), dtype=np.float64)
    return (a - b) / (a + b + 1.0)

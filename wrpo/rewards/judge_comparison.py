"""Comparisons: the judge sees an answer and one of another model, in both orders."""

from __future__ import annotations

from collections.abc import Sequence

from wrpo.judging import JudgeRequest, Verdict
from wrpo.pipeline.tables import Drop, RowLookup
from wrpo.recipe.judges import as_text, fill, last_match, template_name
from wrpo.recipe.rewards import JudgeReward
from wrpo.rewards.base import Candidate

_SHARE_OF_A = {"a": 1.0, "tie": 0.5, "b": 0.0}


class Comparison:
    """The share of wins against the opponent's first answer to the same prompt; a tie is one half.

    Judges prefer one of two places (arXiv 2306.05685), so each pair is shown in both orders.
    """

    def __init__(self, settings: JudgeReward, opponent: RowLookup) -> None:
        self._opponent = opponent
        self._opponent_name = settings.opponent
        self._template = settings.template
        self._name = template_name("comparison", self._template)
        self._pattern = settings.reply_pattern

    def requests(self, candidate: Candidate) -> Sequence[JudgeRequest] | float | Drop:
        """The answer as A, then as B; nothing is asked about equal answers."""
        answers = self._opponent.rows(candidate.prompt_id)
        other = min(answers, key=lambda row: row["index"])["text"] if answers else ""
        if not other.strip():
            return Drop("no_opponent_answer", f"of {self._opponent_name}")
        if other == candidate.answer:
            return 0.5
        orders = [(candidate.answer, other), (other, candidate.answer)]
        return [self._request(candidate, *order) for order in orders]

    def _request(self, candidate: Candidate, a: str, b: str) -> JudgeRequest:
        values = {"prompt": as_text(candidate.messages), "answer_a": a, "answer_b": b}
        text = fill(self._template, values)
        return JudgeRequest([{"role": "user", "content": text}], self._name)

    def read(self, wording: int, verdict: Verdict) -> float | str:
        """The share that the answer wins in this order, or why there is none."""
        if verdict.text is None:
            return verdict.detail or "refused"
        found = last_match(self._pattern, verdict.text)
        share = _SHARE_OF_A.get(found["verdict"].lower()) if found else None
        if share is None:
            return f"no verdict in {verdict.text[-200:]!r}"
        return 1.0 - share if wording else share

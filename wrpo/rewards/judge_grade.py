"""Grades: the judge sees one answer and gives a number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from wrpo.errors import ModelError
from wrpo.judging import JudgeRequest, Verdict
from wrpo.recipe.judges import JudgeModel, as_text, fill, last_match, template_name
from wrpo.recipe.rewards import JudgeReward
from wrpo.rewards.base import Candidate

_ALTERNATIVES = 20  # the most that OpenAI's API gives
_LEAST_MASS = 0.5


class Grade:
    """A grade on the scale of the recipe: the last number that the pattern finds in the reply.

    With `expected`, sum_d d * p(d) / sum_d p(d) over the digits of the scale, at the first token
    where they have half of the probability (as in G-Eval, arXiv 2303.16634).
    """

    def __init__(self, settings: JudgeReward, judge: JudgeModel) -> None:
        self._settings, self._judge = settings, judge
        self._template = settings.template
        self._name = template_name("grade", self._template)
        self._pattern = settings.reply_pattern

    def requests(self, candidate: Candidate) -> Sequence[JudgeRequest]:
        """One request."""
        low, high = self._settings.scale
        values = {
            "prompt": as_text(candidate.messages),
            "answer": candidate.answer,
            "low": f"{low:g}",
            "high": f"{high:g}",
        }
        return [
            JudgeRequest(
                [{"role": "user", "content": fill(self._template, values)}],
                self._name,
                top_logprobs=_ALTERNATIVES if self._settings.expected else 0,
            )
        ]

    def read(self, wording: int, verdict: Verdict) -> float | str:
        """The grade, or why there is none."""
        if verdict.text is None:
            return verdict.detail or "refused"
        if self._settings.expected:
            return self._expected(verdict)
        found = last_match(self._pattern, verdict.text)
        if found is None:
            return f"no grade in {verdict.text[-200:]!r}"
        low, high = self._settings.scale
        try:
            grade = float(found["rating"])
        except (TypeError, ValueError):
            return f"no number: {found['rating']!r}"
        if not low <= grade <= high:
            return f"grade {grade:g} is not within {low:g} to {high:g}"
        return grade

    def _expected(self, verdict: Verdict) -> float | str:
        if not verdict.top_logprobs:
            raise ModelError(
                f"judges.{self._settings.judge}: {self._judge.model} gives no log-probs, which "
                "`expected` needs; set expected: false for this reward"
            )
        low, high = self._settings.scale
        for alternatives in verdict.top_logprobs:
            mass = _digit_mass(alternatives, int(low), int(high))
            if sum(mass.values()) >= _LEAST_MASS:
                return sum(digit * p for digit, p in mass.items()) / sum(mass.values())
        return f"no digit of the scale is likely in {verdict.text!r:.200}"


def _digit_mass(alternatives: Mapping[str, float], low: int, high: int) -> dict[int, float]:
    """Probability of each digit of the scale, with or without spaces around it."""
    mass = dict.fromkeys(range(low, high + 1), 0.0)
    for token, logprob in alternatives.items():
        text = token.strip()
        if text.isascii() and text.isdigit() and len(text) == 1 and int(text) in mass:
            mass[int(text)] += math.exp(logprob)
    return mass

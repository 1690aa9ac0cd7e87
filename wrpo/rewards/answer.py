"""A programmatic verifier: extracts the final answer and compares it with the reference answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from wrpo.ids import normalise_text
from wrpo.pipeline.tables import Drop
from wrpo.rewards.base import NO_ANSWER, RewardSettings, SelfCheck, Verifier
from wrpo.rewards.patterns import UserPattern

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline


DEFAULT_PATTERN = r"(?s)(?P<answer>.*)"


class AnswerReward(RewardSettings):
    """A programmatic verifier: 1 when the extracted answer equals the reference answer, else 0."""

    type: Literal["answer"]
    pattern: str = Field(
        DEFAULT_PATTERN,
        description="Regular expression with a group named `answer`. Where it does not match the "
        "whole response, its last match in it counts; \\A and \\Z hold it to the whole.",
    )
    ignore_case: bool = Field(False, description="Compare without regard to case.")

    @field_validator("pattern")
    @classmethod
    def _has_answer_group(cls, pattern: str) -> str:
        if "answer" not in UserPattern(pattern).groups:
            raise ValueError("must hold a group named answer: (?P<answer>...)")
        return pattern

    def self_check(self, reference_answer: str) -> SelfCheck:
        """The reference answer in the first usual form that fits the pattern; nothing; a wrong one.

        The pattern decides the form of an answer, so that there may be no form known here.
        """
        verifier = AnswerVerifier(self)
        forms = [form.format(reference_answer) for form in _FORMS]
        right = next((form for form in forms if verifier.is_correct(form, reference_answer)), None)
        if self.pattern == DEFAULT_PATTERN:
            right = reference_answer
        return SelfCheck(right, ("", NO_ANSWER, *(form.format(NO_ANSWER) for form in _FORMS[1:4])))

    def load(self, pipeline: Pipeline | None = None) -> AnswerVerifier:
        """The verifier."""
        return AnswerVerifier(self)


_FORMS = (
    *("{}", "The answer is {}", "The answer is {}.", "The answer is: {}", "Answer: {}"),
    *("ANSWER: {}", "**Answer:** {}", "The best answer is {}", "The final answer is {}."),
    *("The answer is ({}).", "({})", "#### {}", "\\boxed{{{}}}", "$\\boxed{{{}}}$"),
    *("<answer>{}</answer>", "<answer>\n{}\n</answer>", "[[{}]]"),
)


class AnswerVerifier(Verifier):
    """1.0 where the group `answer` of the pattern equals the reference answer, else 0.0.

    The pattern is matched with the whole response, after Unicode and white-space normalisation;
    where that fails, its last match counts.
    """

    def __init__(self, settings: AnswerReward) -> None:
        self._pattern = UserPattern(settings.pattern, ignore_case=settings.ignore_case)
        self._ignore_case = settings.ignore_case

    def compare(self, response: str, reference_answer: str) -> float | Drop:
        """1.0 where they are equal; a response on which the pattern takes too long is refused."""
        try:
            return float(self.is_correct(response, reference_answer))
        except TimeoutError:
            return Drop("slow_pattern", f"a response of {len(response)} characters")

    def is_correct(self, response: str, reference_answer: str) -> bool:
        """Whether the answer of a response equals the reference answer.

        Raises:
            TimeoutError: the pattern takes too long.
        """
        text = normalise_text(response)
        match = self._pattern.fullmatch(text) or next(reversed(self._pattern.finditer(text)), None)
        if match is None:
            return False
        return self._comparable(match["answer"] or "") == self._comparable(reference_answer)

    def _comparable(self, text: str) -> str:
        text = " ".join(normalise_text(text).split())
        return text.casefold() if self._ignore_case else text

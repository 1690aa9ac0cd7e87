"""Mathematical equality with the reference answer, by the package math-verify."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from wrpo.errors import ModelError
from wrpo.pipeline.tables import Drop
from wrpo.rewards.base import RewardSettings, SelfCheck, Verifier
from wrpo.rewards.mathematics import Answer, Equality, UnreadableAnswerError

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline


class MathReward(RewardSettings):
    """Mathematical equality with the reference answer, by math-verify."""

    type: Literal["math"]
    timeout_s: int = Field(5, ge=1, description="For reading and comparing, in seconds.")

    def load(self, pipeline: Pipeline | None = None) -> MathVerifier:
        """The verifier."""
        return MathVerifier(self)

    def self_check(self, reference_answer: str) -> SelfCheck:
        """The reference answer in a box; nothing, no formula, and a number that it is not."""
        wrong = r"The answer is $\boxed{-314159.25}$."
        right = rf"The answer is $\boxed{{{reference_answer}}}$."
        return SelfCheck(right, ("", "I do not know.", wrong))

    def extras(self) -> frozenset[str]:
        """math-verify is installed with lm-eval."""
        return frozenset({"eval"})


class MathVerifier(Verifier):
    """1.0 where the final answer of a response equals the reference answer, else 0.0.

    The last box of a response is its answer; without a box its last formula is. Nothing of the
    response is executed. A response that takes longer than `timeout_s` counts as unequal; the limit
    is an alarm signal: scoring must run in the main thread.

    Raises ModelError where math-verify is not installed.
    """

    def __init__(self, settings: MathReward) -> None:
        if find_spec("math_verify") is None:
            raise ModelError(
                "reward type math needs the package math-verify; install it with "
                'pip install "wrpo[eval]"'
            )
        self._equality = Equality(timeout_s=settings.timeout_s)
        self._references: dict[str, Answer | Drop] = {}

    def compare(self, response: str, reference_answer: str) -> float | Drop:
        """1.0 where the final answer of the response equals the reference answer."""
        reference = self._read(reference_answer)
        if isinstance(reference, Drop):
            return reference
        return float(self._equality.is_correct(response, reference))

    def _read(self, text: str) -> Answer | Drop:
        if text not in self._references:
            try:
                self._references[text] = self._equality.read_reference(text)
            except UnreadableAnswerError as error:
                detail = f"{text[:80]!r} is no answer that can be compared: {error}"
                self._references[text] = Drop("bad_reference_answer", detail)
        return self._references[text]

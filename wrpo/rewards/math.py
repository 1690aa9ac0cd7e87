"""Mathematical equality with the reference answer, by the package math-verify."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from wrpo.errors import ModelError
from wrpo.pipeline.tables import Drop
from wrpo.rewards.base import Candidate, RewardSettings

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline


class MathReward(RewardSettings):
    """Mathematical equality with the reference answer, by math-verify."""

    type: Literal["math"]
    timeout_s: int = Field(5, ge=1, description="For parsing and for comparing, in seconds.")

    def load(self, pipeline: Pipeline | None = None) -> MathVerifier:
        """The verifier."""
        return MathVerifier(self)

    def extras(self) -> frozenset[str]:
        """math-verify is installed with lm-eval."""
        return frozenset({"eval"})


class MathVerifier:
    """1.0 where the last expression of a response equals the reference answer, else 0.0.

    Nothing of the response is executed. Parsing and comparing end after `timeout_s` seconds each,
    by
    an alarm signal: scoring must run in the main thread. What takes longer counts as unequal.

    Raises ModelError where math-verify is not installed.
    """

    def __init__(self, settings: MathReward) -> None:
        if find_spec("math_verify") is None:
            raise ModelError(
                "reward type math needs the package math-verify; install it with "
                'pip install "wrpo[eval]"'
            )
        # It logs each expression that it gives up, at any length, as an error.
        logging.getLogger("math_verify").setLevel(logging.CRITICAL)
        self._timeout = settings.timeout_s

    def score(self, candidates: list[Candidate]) -> list[float | Drop]:
        """One 0 or 1 per candidate; one whose reference answer is missing or no formula is
        refused."""
        return [self._score(candidate) for candidate in candidates]

    def _score(self, candidate: Candidate) -> float | Drop:
        from math_verify import verify

        if candidate.reference_answer is None:
            return Drop(
                "no_reference_answer", "set prompts.datasets.NAME.reference_answer to its column"
            )
        # A bare LaTeX formula is found only between dollars.
        reference_answer = self._parse(candidate.reference_answer) or self._parse(
            f"${candidate.reference_answer}$"
        )
        if not reference_answer:
            return Drop(
                "bad_reference_answer", f"no formula in {candidate.reference_answer[:80]!r}"
            )
        response = self._parse(candidate.response)
        return (
            float(verify(reference_answer, response, timeout_seconds=self._timeout))
            if response
            else 0.0
        )

    def _parse(self, text: str) -> list[object]:
        from math_verify import parse

        found: list[object] = parse(text, parsing_timeout=self._timeout)
        return found

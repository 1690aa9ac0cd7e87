"""Mathematical equality with the gold answer, by the package math-verify."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from wrpo.errors import ModelError
from wrpo.pipeline.tables import Drop
from wrpo.recipe.rewards import MathReward
from wrpo.rewards.base import Candidate


class MathVerifier:
    """1.0 where the last expression of an answer equals the gold one, else 0.0.

    Nothing of the answer is executed. Parsing and comparing end after `timeout_s` seconds each, by
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
        """One 0 or 1 per candidate; one whose gold answer is missing or no formula is refused."""
        return [self._score(candidate) for candidate in candidates]

    def _score(self, candidate: Candidate) -> float | Drop:
        from math_verify import verify

        if candidate.gold is None:
            return Drop("no_gold_answer", "set prompts.datasets.NAME.answer to its column")
        # A bare LaTeX formula is found only between dollars.
        gold = self._parse(candidate.gold) or self._parse(f"${candidate.gold}$")
        if not gold:
            return Drop("bad_gold_answer", f"no formula in {candidate.gold[:80]!r}")
        answer = self._parse(candidate.answer)
        return float(verify(gold, answer, timeout_seconds=self._timeout)) if answer else 0.0

    def _parse(self, text: str) -> list[object]:
        from math_verify import parse

        found: list[object] = parse(text, parsing_timeout=self._timeout)
        return found

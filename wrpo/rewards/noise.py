"""Noise on top of other rewards: what a run loses when its rewards are less exact."""

from __future__ import annotations

import hashlib
import json
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from wrpo.pipeline.tables import Drop
from wrpo.rewards.base import Candidate, RewardSettings

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline

_NORMAL = NormalDist()


class NoiseReward(RewardSettings):
    """A normal number per response, mean 0 and standard deviation 1; `weight` is its size.

    Equal responses to the same prompt get the same number.
    """

    type: Literal["noise"]
    seed: int = Field(0, description="Another seed, other numbers.")

    def load(self, pipeline: Pipeline | None = None) -> Noise:
        """What scores."""
        return Noise(self.seed)


class Noise:
    """Numbers that depend on seed, prompt and response alone."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def score(self, candidates: list[Candidate]) -> list[float | Drop]:
        """One number per candidate."""
        return [self._score(candidate) for candidate in candidates]

    def _score(self, candidate: Candidate) -> float:
        text = json.dumps([self._seed, candidate.messages, candidate.response])
        drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
        return _NORMAL.inv_cdf((drawn + 0.5) / 2**48)

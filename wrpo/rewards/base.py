"""What scoring asks of a reward, and the choice of one by the recipe's `type`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import Drop
from wrpo.recipe.rewards import (
    AnswerReward,
    ArmoRMReward,
    CodeReward,
    InstructionReward,
    JudgeReward,
    MathReward,
    Reward,
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One answer to score."""

    messages: list[dict[str, str]]
    answer: str
    gold: str | None
    prompt_id: str = ""


class RewardModel(Protocol):
    """Scores candidates; the result has one entry per candidate, in order.

    A candidate that gets no score is dropped, with the reason that stands in its place.
    """

    def score(self, candidates: list[Candidate]) -> list[float | Drop]: ...


def load_reward(settings: Reward, pipeline: Pipeline | None = None) -> RewardModel:
    """The reward that a recipe entry describes.

    Args:
        pipeline: where a judge and the answers of its opponent are found; the others need none.
    """
    if isinstance(settings, JudgeReward):
        from wrpo.rewards.judge import load_judge_reward

        if pipeline is None:
            raise TypeError("a judge needs the recipe that names it")
        return load_judge_reward(settings, pipeline)
    if isinstance(settings, AnswerReward):
        from wrpo.rewards.answer import AnswerVerifier

        return AnswerVerifier(settings)
    if isinstance(settings, ArmoRMReward):
        from wrpo.rewards.armorm import ArmoRM

        return ArmoRM(settings)
    if isinstance(settings, CodeReward):
        from wrpo.rewards.code import CodeTests

        return CodeTests(settings)
    if isinstance(settings, MathReward):
        from wrpo.rewards.math import MathVerifier

        return MathVerifier(settings)
    if isinstance(settings, InstructionReward):
        from wrpo.rewards.instruction import InstructionChecks

        return InstructionChecks(settings)
    if settings.engine.backend == "vllm":
        from wrpo.rewards.vllm_classifier import VLLMClassifier

        return VLLMClassifier(settings)
    from wrpo.rewards.classifier import Classifier

    return Classifier(settings)

"""What gives answers their scores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import (
    Field,
    field_validator,
)

from wrpo.recipe.judge_reward_section import JudgeReward
from wrpo.recipe.reward_base import RewardSection
from wrpo.recipe.sampling_sections import VLLMSettings
from wrpo.recipe.section import Section


class ScoringEngine(Section):
    """How fast scoring runs."""

    batch_tokens: int = Field(16384, ge=1, description="Tokens per forward pass.")


class ClassifierEngine(ScoringEngine, VLLMSettings):
    """How fast a classifier scores; `vllm` takes the fields after `batch_tokens`."""

    backend: Literal["transformers", "vllm"] = Field(
        "transformers",
        description="vllm is compared with transformers on the first answers, and refused where "
        "it gives other scores.",
    )


class ModelReward(RewardSection):
    """What rewards by a model of conversations share."""

    model: str = Field(description="Hub id, or folder of a local checkpoint.")
    revision: str | None = Field(None, description="Branch, tag or commit on the hub.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "bfloat16", description="Precision of the weights; linear heads run in float32."
    )
    chat_template: Path | None = Field(None, description="Jinja file used instead of the model's.")
    fold_system: bool = Field(False, description="Put the system text into the first user turn.")
    max_tokens: int = Field(4096, ge=1, description="Longer conversations are dropped.")
    engine: ScoringEngine = Field(default_factory=ScoringEngine, description="Speed only.")


class ClassifierReward(ModelReward):
    """A sequence-classification reward model with one label; its raw logit is the score."""

    type: Literal["classifier"]
    trust_remote_code: bool = Field(False, description="Run Python code from the model's folder.")
    engine: ClassifierEngine = Field(default_factory=ClassifierEngine, description="Speed only.")


class ArmoRMReward(ModelReward):
    """RLHFlow/ArmoRM-Llama3-8B-v0.1, or a checkpoint of that shape; runs no code of its own."""

    type: Literal["armorm"]


class AnswerReward(RewardSection):
    """A programmatic verifier: 1 when the extracted answer equals the gold answer, else 0."""

    type: Literal["answer"]
    pattern: str = Field(
        r"(?s)(?P<answer>.*)", description="Regular expression with a group named `answer`."
    )
    ignore_case: bool = Field(False, description="Compare without regard to case.")

    @field_validator("pattern")
    @classmethod
    def _has_answer_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        if "answer" not in groups:
            raise ValueError("must hold a group named answer: (?P<answer>...)")
        return pattern


class CodeEngine(Section):
    """How fast programs are tested."""

    workers: int = Field(4, ge=1, description="Programs that run at the same time.")


class CodeReward(RewardSection):
    """Unit tests: the gold answer holds assertions, or inputs and outputs, as code or JSON."""

    type: Literal["code"]
    partial: bool = Field(False, description="The share of passed tests; else all or nothing.")
    cpu_s: int = Field(5, ge=1, description="CPU time of one test, in seconds.")
    wall_s: float = Field(15.0, gt=0.0, description="Time of one test, in seconds.")
    memory_mib: int = Field(1024, ge=64, description="Address space of a program.")
    sandbox: Literal["bubblewrap", "none-i-accept-the-risk"] = Field(
        "bubblewrap",
        description="none-i-accept-the-risk: answers run with the rights of the user, with limits.",
    )
    engine: CodeEngine = Field(default_factory=CodeEngine, description="Speed only.")


class MathReward(RewardSection):
    """Mathematical equality with the gold answer, by math-verify."""

    type: Literal["math"]
    timeout_s: int = Field(5, ge=1, description="For parsing and for comparing, in seconds.")


class InstructionReward(RewardSection):
    """Checks of form, which the gold answer names as a JSON list: [{"min_words": 50}, ...]."""

    type: Literal["instruction"]
    partial: bool = Field(False, description="The share of passed checks; else all or nothing.")


Reward = Annotated[
    ClassifierReward
    | ArmoRMReward
    | AnswerReward
    | CodeReward
    | MathReward
    | InstructionReward
    | JudgeReward,
    Field(discriminator="type"),
]
REWARD_TYPES = {
    get_args(kind.model_fields["type"].annotation)[0] for kind in get_args(get_args(Reward)[0])
}

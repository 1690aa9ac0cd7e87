"""Supervised and preference training, truncation and log-probs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import (
    Field,
    model_validator,
)

from wrpo.objectives.base import ObjectiveSettings
from wrpo.rows.truncation import TokenLimits
from wrpo.settings import Section, any_of, kinds_in
from wrpo.training.settings import CPU_TOKENS, Training

OBJECTIVES = kinds_in("wrpo.objectives", ObjectiveSettings, tag="objective")
"""The settings class of every objective, by its name."""

if TYPE_CHECKING:
    Preference = ObjectiveSettings
else:
    Preference = any_of(OBJECTIVES, tag="objective", default="wrpo")


class SFT(Training):
    """Supervised fine-tuning of the target on the best source responses."""


class Truncation(Section):
    """How preference rows are cut, in tokens of the target; a response that is cut has no end."""

    renamed: ClassVar[Mapping[str, str]] = {"max_answer_length": "max_response_length"}

    max_length: int = Field(
        2048,
        ge=2,
        description="Prompt plus response; `sft.train.max_length` is by default the same.",
    )
    max_prompt_length: int | None = Field(
        None, ge=2, description="The prompt; a longer one loses its start. Unset: whole."
    )
    max_response_length: int | None = Field(
        None, ge=2, description="A response; a longer one loses its tail. Unset: what is left."
    )
    mode: Literal["separate", "original"] = Field(
        "separate",
        description="separate: each response by itself; original: as the authors' code, where one "
        "long response cuts all of them.",
    )

    @property
    def limits(self) -> TokenLimits:
        """The same, as the functions that cut take it."""
        return TokenLimits(**self.model_dump())

    @model_validator(mode="after")
    def _leaves_tokens(self) -> Truncation:
        if problem := self.limits.problem():
            raise ValueError(problem)
        return self


class LogProbEngine(Section):
    """How fast log-probs are computed."""

    batch_tokens: int | None = Field(
        None,
        ge=1,
        description="Tokens per forward pass; unset: what fits into the GPU, as measured in the "
        f"first passes, and {CPU_TOKENS} on a CPU.",
    )
    attention: str | None = Field(
        "auto",
        description="auto: torch's variable-length kernel where it runs, else transformers' "
        "choice; varlen: that kernel; or a name of transformers, such as flash_attention_2.",
    )


class TeacherLogitsEngine(Section):
    """How fast distributions of teachers are computed."""

    batch_responses: int = Field(8, ge=1, description="Responses per forward pass.")


class TeacherLogits(Section):
    """Distributions of teachers over the tokens of training responses, for explicit fusion."""

    method: Literal["transformers", "vllm"] = Field(
        "transformers",
        description="transformers: in float32 on one device; vllm: its prompt log-probs, in the "
        "dtype of the model.",
    )
    top_k: int = Field(10, ge=1, description="Tokens stored per position; the rest is a remainder.")
    chunk_rows: int = Field(256, ge=1, description="Rows per part file.")
    engine: TeacherLogitsEngine = Field(
        default_factory=TeacherLogitsEngine, description="Speed only."
    )


class LogProbs(Section):
    """Log-probs of the training responses under the SFT model and, where needed, the sources."""

    renamed: ClassVar[Mapping[str, str]] = {"check_answers": "check_responses"}

    method: Literal["trainer", "vllm", "sampled"] = Field(
        "trainer",
        description="trainer: the training step's own pass; vllm: its prompt log-probs; sampled: "
        "those it gave while sampling (sample.target.keep_logprobs), the rest by the trainer.",
    )
    tolerance: float = Field(
        0.5,
        gt=0.0,
        description="Largest difference from the trainer's sum of a response, in nats.",
    )
    check_responses: int = Field(
        8, ge=1, description="Responses compared before others are computed."
    )
    chunk_rows: int = Field(512, ge=1, description="Rows per part file.")
    engine: LogProbEngine = Field(default_factory=LogProbEngine, description="Speed only.")

"""What gives answers their scores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from wrpo.files import is_file
from wrpo.recipe.judges import COMPARISON, DIGIT, RATING, fields_of
from wrpo.recipe.sampling import VLLMSettings
from wrpo.settings import Section


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


class RewardSection(Section):
    """What all rewards share."""

    weight: float = Field(1.0, description="Factor of this reward in the combined score.")
    domains: list[str] | None = Field(
        None,
        min_length=1,
        description="Only prompts of these domains; to others it gives no number. Unset: all.",
    )

    def covers(self, domain: str) -> bool:
        """Whether this reward counts for prompts of a domain."""
        return self.domains is None or domain in self.domains


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


RATING_PATTERN = r"\[\[\s*(?P<rating>-?\d+(?:\.\d+)?)\s*\]\]"


VERDICT_PATTERN = r"(?i)\[\[\s*(?P<verdict>A|B|tie)\s*\]\]"


class JudgeReward(RewardSection):
    """A model that grades each answer, or compares it with an answer of another model."""

    type: Literal["judge"]
    judge: str = Field(description="Name under `judges`.")
    opponent: str | None = Field(
        None,
        description="A source. Each answer is compared with that source's first answer to the same "
        "prompt, in both orders; the score is the mean share of wins, a tie being one half. Unset: "
        "each answer gets a grade.",
    )
    prompt: Path | None = Field(
        None,
        description="Text file with the question: {{prompt}} and {{answer}}, or {{answer_a}} and "
        "{{answer_b}}; also {{low}} and {{high}}. Unset: a general one.",
    )
    pattern: str | None = Field(
        None,
        description="Regular expression; the last match in a reply counts. Its group `rating` is "
        "the grade, or its group `verdict` is A, B or tie. Unset: [[7]], or [[A]].",
    )
    scale: tuple[float, float] = Field((1, 10), description="Lowest and highest grade.")
    samples: int = Field(
        1, ge=1, description="Judgements per answer, or per order; the score is their mean."
    )
    expected: bool = Field(
        False,
        description="The grade is the mean over the digits of the scale, weighted by the judge's "
        "probabilities; for endpoints that give log-probs, and scales within 0 to 9.",
    )

    @property
    def template(self) -> str:
        """The text of the question."""
        if self.prompt is not None:
            return self.prompt.read_text(encoding="utf-8")
        if self.opponent is not None:
            return COMPARISON
        return DIGIT if self.expected else RATING

    @property
    def reply_pattern(self) -> re.Pattern[str]:
        """Finds the grade or the verdict in a reply."""
        default = VERDICT_PATTERN if self.opponent else RATING_PATTERN
        return re.compile(self.pattern or default)

    @field_validator("scale")
    @classmethod
    def _ascending(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] >= scale[1]:
            raise ValueError(f"the first must be below the second, not {list(scale)}")
        return scale

    @model_validator(mode="after")
    def _pattern_has_its_group(self) -> JudgeReward:
        group = "verdict" if self.opponent else "rating"
        try:
            groups = self.reply_pattern.groupindex
        except re.error as error:
            raise ValueError(f"pattern: not a regular expression: {error}") from None
        if group not in groups:
            raise ValueError(f"pattern: must hold a group named {group}: (?P<{group}>...)")
        return self

    @model_validator(mode="after")
    def _question_has_its_fields(self) -> JudgeReward:
        if self.prompt is None:
            return self
        if not is_file(self.prompt):
            raise ValueError(f"prompt: no such file: {self.prompt}")
        needed = {"prompt", *(("answer_a", "answer_b") if self.opponent else ("answer",))}
        found = fields_of(self.template)
        if needed - found or found - needed - {"low", "high"}:
            raise ValueError(
                f"prompt: {self.prompt} must have the fields {sorted(needed)} and may have low and "
                f"high; it has {sorted(found)}"
            )
        return self

    @model_validator(mode="after")
    def _digits_are_one_token(self) -> JudgeReward:
        if not self.expected:
            return self
        low, high = self.scale
        if self.opponent or self.samples > 1:
            raise ValueError("expected: goes with neither opponent nor samples; unset them")
        if low != int(low) or high != int(high) or low < 0 or high > 9:
            raise ValueError(
                f"expected: reads one digit, so that scale must be whole numbers within 0 to 9, "
                f"e.g. [1, 9], not {[low, high]}"
            )
        return self


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

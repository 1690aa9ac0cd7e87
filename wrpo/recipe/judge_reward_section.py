"""A judge of `judges` that scores answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from wrpo.local_paths import is_file
from wrpo.recipe import judge_questions
from wrpo.recipe.reward_base import RewardSection

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
            return judge_questions.COMPARISON
        return judge_questions.DIGIT if self.expected else judge_questions.RATING

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
        found = judge_questions.fields_of(self.template)
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

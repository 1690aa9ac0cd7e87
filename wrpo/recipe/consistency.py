"""Knowledge consistency: what becomes of SFT rows whose facts the target does not know."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from wrpo.settings import Section, Share


class Consistency(Section):
    """Which SFT rows the target knows the facts of, by an exam (KCA, arXiv 2401.10768)."""

    judge: str = Field(description="Name under `judges`: who makes the exam.")
    treatment: Literal["open_book", "discard", "refusal"] = Field(
        "discard",
        description="What becomes of rows whose facts the target does not know: the passage comes "
        "before the prompt, the row is dropped, or the response says that it does not know.",
    )
    unparsed: Literal["keep", "discard"] = Field(
        "keep", description="What becomes of rows for which there is no exam."
    )
    questions: int = Field(3, ge=1, le=10, description="Questions of an exam.")
    pass_above: Share = Field(
        0.6, description="The target knows the facts where more than this share is right."
    )
    answer_by: Literal["letters", "options"] = Field(
        "letters",
        description="letters: the likeliest of A to D after the question with its options, as in "
        "the paper; options: the likeliest option as a response to the question, per byte.",
    )
    max_length: int = Field(
        2048, ge=64, description="letters: most tokens; examples are left out until it fits."
    )

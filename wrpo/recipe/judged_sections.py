"""Benchmarks whose answers a judge scores."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from wrpo.recipe.section import Section

OWN, PUBLISHED = "own", "published"
ONLY_VLLM = ("presence_penalty", "frequency_penalty")


class Decoding(Section):
    """How answers are drawn; unset: as the recipe's suite states it, else as suite wrpo does."""

    temperature: float | None = Field(
        None, ge=0.0, description="0 is greedy; mt_bench has one per category unless this is set."
    )
    top_p: float | None = Field(None, gt=0.0, le=1.0, description="Nucleus mass; 1 is off.")
    top_k: int | None = Field(None, ge=0, description="Candidates kept per token; 0 is off.")
    repetition_penalty: float | None = Field(None, gt=0.0, description="1 is off.")
    presence_penalty: float | None = Field(None, description="0 is off; only with vllm.")
    frequency_penalty: float | None = Field(None, description="0 is off; only with vllm.")
    max_tokens: int | None = Field(None, ge=1, description="Longest answer.")


class Judged(Section):
    """One benchmark under `eval.judged`."""

    judge: str = Field(description="A name under `judges`.")
    questions: Path | None = Field(
        None, description="The benchmark's question file; unset: from the hub, at run time."
    )
    references: Path | None = Field(
        None,
        description="arena_hard: the baseline's answers; mt_bench: reference answers; unset: from "
        "the hub. alpaca_eval_2 has the baseline's answers in its question file.",
    )
    difficulty: Path | None = Field(
        None,
        description="alpaca_eval_2: df_gamed.csv of AlpacaEval, for the length-controlled win "
        "rate; unset: from the hub.",
    )
    prompt: str | None = Field(
        None,
        description="own: this toolkit's judge prompt; published: that of the installed "
        "alpaca-eval; or the path of a published prompt file. Unset: published for "
        "alpaca_eval_2, own for the others.",
    )
    both_orders: bool | None = Field(
        None,
        description="Ask once with each answer first; unset: as published (arena_hard yes, "
        "alpaca_eval_2 no).",
    )
    logprobs: bool = Field(
        True,
        description="alpaca_eval_2: weigh verdicts by the log-probs of the two labels; false for "
        "judges that give none.",
    )
    decoding: Decoding = Field(default_factory=Decoding, description="What differs from the suite.")
    limit: int | None = Field(None, ge=1, description="Only the first questions.")


JUDGED_BENCHMARKS = ("alpaca_eval_2", "arena_hard", "mt_bench")

MT_BENCH_TEMPERATURES = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
"""FastChat, llm_judge/common.py."""


def default_prompt(name: str, judged: Judged) -> str:
    """Which judge prompt a benchmark uses: own, published, or a path."""
    return judged.prompt or (PUBLISHED if name == "alpaca_eval_2" else OWN)


def asks_both_orders(name: str, judged: Judged) -> bool:
    """Whether each pair is judged twice."""
    return name == "arena_hard" if judged.both_orders is None else judged.both_orders

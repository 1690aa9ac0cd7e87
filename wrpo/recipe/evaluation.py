"""Which benchmarks the models of a run are evaluated on, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from wrpo.settings import Section


class EvalEngine(Section):
    """How fast evaluation runs."""

    batch_size: int = Field(64, ge=1, description="Prompts per batch.")


class Eval(Section):
    """lm-eval runs of every model of the run."""

    suite: str | list[str] | None = Field(
        None,
        description="Suite or suites of benchmarks: names in eval/suites/, or paths of own files.",
    )
    tasks: list[str] = Field(
        default_factory=list,
        description="lm-eval task or group names, beside or instead of a suite.",
    )
    include_path: Path | None = Field(None, description="Folder with further lm-eval tasks.")
    backend: Literal["hf", "vllm"] = Field("hf", description="lm-eval model type.")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto", description="Precision of the weights."
    )
    max_length: int | None = Field(None, ge=1, description="Context length; unset: the model's.")
    limit: int | None = Field(None, ge=1, description="Only the first documents of each task.")
    metrics: list[str] = Field(default_factory=list, description="Shown first; empty: all.")
    group_by: str | None = Field(None, description="Document field the report breaks down by.")
    sources: bool = Field(True, description="Evaluate the source models too.")
    judged: dict[str, Judged] = Field(
        default_factory=dict,
        description="Benchmarks that a judge scores: alpaca_eval_2, arena_hard, mt_bench.",
    )
    sandbox: Literal["bubblewrap", "none-i-accept-the-risk"] = Field(
        "bubblewrap", description="Where programs that models wrote run, in code benchmarks."
    )
    engine: EvalEngine = Field(default_factory=EvalEngine, description="Speed only.")

    @field_validator("judged")
    @classmethod
    def _known_benchmarks(cls, judged: dict[str, Judged]) -> dict[str, Judged]:
        for name in judged.keys() - set(JUDGED_BENCHMARKS):
            known = ", ".join(JUDGED_BENCHMARKS)
            raise ValueError(f'no judged benchmark "{name}"; known: {known}')
        return judged

    @property
    def runs_on_vllm(self) -> bool:
        """Whether the settings under `sample.engine` that vLLM knows serve evaluation too."""
        return self.backend == "vllm"

    @property
    def suites(self) -> list[str]:
        """The names under `suite`."""
        if self.suite is None:
            return []
        return [self.suite] if isinstance(self.suite, str) else self.suite


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

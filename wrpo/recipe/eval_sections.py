"""Which benchmarks the models of a run are evaluated on, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from wrpo.recipe.judged_sections import JUDGED_BENCHMARKS, Judged
from wrpo.recipe.section import Section


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
    def suites(self) -> list[str]:
        """The names under `suite`."""
        if self.suite is None:
            return []
        return [self.suite] if isinstance(self.suite, str) else self.suite

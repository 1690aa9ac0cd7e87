"""Which benchmarks the models of a run are evaluated on, and how."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from wrpo.benchmarks.base import BenchmarkSettings
from wrpo.settings import Section, by_name, kinds_in

BENCHMARKS = kinds_in("wrpo.benchmarks", BenchmarkSettings, tag="benchmark")
"""The settings of every judged benchmark by its name."""

if TYPE_CHECKING:
    JudgedBenchmarks = dict[str, BenchmarkSettings]
else:
    JudgedBenchmarks = by_name(BENCHMARKS)


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
    judged: JudgedBenchmarks = Field(
        default_factory=dict, description="Benchmarks that a judge scores, by name."
    )
    sandbox: Literal["bubblewrap", "none-i-accept-the-risk"] = Field(
        "bubblewrap", description="Where programs that models wrote run, in code benchmarks."
    )
    engine: EvalEngine = Field(default_factory=EvalEngine, description="Speed only.")

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


ONLY_VLLM = ("presence_penalty", "frequency_penalty")

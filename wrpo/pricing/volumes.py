"""How much work a run is: prompts, answers and their lengths, from what is there already.

What nothing tells stays None; no number is made up. Lengths are measured as soon as there are
prompts and answers, and until then those of the throughput table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wrpo.pricing.throughput import Lengths
from wrpo.recipe import TARGET
from wrpo.stage_folder import read_manifest
from wrpo.stages import Pipeline
from wrpo.tables import parts

MOST_FILES = 64
"""Parts that lengths are read from: enough for a mean, and quick."""


@dataclass(frozen=True)
class Count:
    """Prompts of a run: all, and by split; `basis` says how they are known."""

    total: int
    sft: int
    preference: int
    basis: str


@dataclass(frozen=True)
class Length:
    """A mean length in tokens."""

    tokens: float
    basis: str


class Volumes:
    """Counts and lengths of one run."""

    def __init__(self, pipeline: Pipeline, lengths: Lengths) -> None:
        self.pipeline = pipeline
        self.recipe = pipeline.recipe
        self.defaults = lengths
        self._answers: dict[str, Length | None] = {}

    @cached_property
    def prompts(self) -> Count | None:
        """Prompts, by split; None while nothing says how many there are."""
        folder = self._made("prompts")
        if folder is not None:
            splits = _values(folder, "split")
            sft = pc.sum(pc.equal(splits, "sft")).as_py() or 0
            return Count(len(splits), sft, len(splits) - sft, "prompts are made")
        expected, basis = self.recipe.prompts.expected_prompts, "prompts.expected_prompts"
        limits = [dataset.limit for dataset in self.recipe.prompts.datasets.values()]
        if expected is None and all(limits):
            expected, basis = sum(limit or 0 for limit in limits), "limits of prompts.datasets"
        if expected is None:
            return None
        sft = round(expected * self.recipe.prompts.sft_share)
        return Count(expected, sft, expected - sft, basis)

    @cached_property
    def prompt(self) -> Length:
        """Length of a prompt, from its characters."""
        folder = self._made("prompts")
        if folder is None:
            return Length(self.defaults.prompt_tokens, "expected length")
        messages = pc.list_flatten(_values(folder, "messages"))
        rows = sum(pq.read_metadata(file).num_rows for file in parts(folder)[:MOST_FILES])
        characters = pc.sum(pc.utf8_length(pc.struct_field(messages, "content"))).as_py() or 0
        tokens = characters / max(rows, 1) / self.defaults.characters_per_token
        return Length(max(tokens, 1.0), f"{self.defaults.characters_per_token:g} characters each")

    def answer(self, source: str) -> Length:
        """Length of an answer of a source: its own, else that of the sources, else expected."""
        own = self._measured(source)
        if own is not None:
            return own
        names = [*self.recipe.sources, TARGET]
        others = [length.tokens for name in names if (length := self._measured(name))]
        if others:
            return Length(sum(others) / len(others), "mean of the other models")
        return Length(self.defaults.answer_tokens, "expected length")

    def source_answer(self) -> Length:
        """Mean length of an answer over all sources."""
        lengths = [self.answer(name) for name in self.recipe.sources]
        mean = sum(length.tokens for length in lengths) / len(lengths)
        return Length(mean, lengths[0].basis if len({x.basis for x in lengths}) == 1 else "mixed")

    def rows(self, table: str) -> tuple[int | None, str]:
        """Rows of a training table: counted, or at most the prompts of its split."""
        folder = self._made(f"build/{table}")
        manifest = read_manifest(folder) if folder else None
        if manifest and manifest.get("rows") is not None:
            return int(manifest["rows"]), f"build/{table} is made"
        if self.prompts is None or table in self.recipe.build.imported.tables():
            return None, ""
        if table == "sft":
            return self.prompts.sft, "at most one row per SFT prompt"
        per_prompt = len(self.recipe.sources) if table == "pairs" else 1
        return self.prompts.preference * per_prompt, f"at most {per_prompt} per preference prompt"

    def _measured(self, source: str) -> Length | None:
        """From the parts of its sample stage, finished or not."""
        if source not in self._answers:
            counts = None
            if f"sample/{source}" in self.pipeline.stages:
                counts = _values(self.pipeline.folder(f"sample/{source}"), "token_count")
            mean = pc.mean(counts).as_py() if counts is not None else None
            self._answers[source] = Length(mean, "its own answers") if mean else None
        return self._answers[source]

    def _made(self, stage: str) -> Path | None:
        """Folder of a finished stage of these settings."""
        if stage not in self.pipeline.stages or self.pipeline.state(stage) != "done":
            return None
        return self.pipeline.finished(stage)


def _values(folder: Path, column: str) -> Any:
    """One column of the first parts; unreadable parts are left out."""
    chunks = []
    for file in parts(folder)[:MOST_FILES]:
        try:
            chunks += pq.read_table(file, columns=[column]).column(column).chunks
        except (OSError, pa.ArrowException):
            continue
    return pa.chunked_array(chunks) if chunks else pa.chunked_array([], type=pa.null())

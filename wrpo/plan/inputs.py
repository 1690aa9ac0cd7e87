"""What prices are made from: the run as far as it is, the table of speeds, the sizes of models."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

from wrpo.engines.base import Capacity
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.stage import model_identity
from wrpo.plan.formulas import decode_bound
from wrpo.plan.model_shape import Shape, shape_of, unknown_size
from wrpo.plan.throughput import GPU, Measured, ThroughputTable, decode_speed
from wrpo.plan.volumes import Asked, Volumes
from wrpo.plan.work import NO_PROMPTS, NO_ROWS, UnknownPrice, Work
from wrpo.recipe import TARGET, Model, Recipe
from wrpo.recipe.resolved import sampling_model


@dataclass(frozen=True)
class Facts:
    """Of one recipe on one kind of GPU; what is not known is raised as `UnknownPrice`."""

    pipeline: Pipeline
    table: ThroughputTable
    measured: Sequence[Measured]
    kind: str

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""
        return self.pipeline.recipe

    @property
    def gpu(self) -> GPU:
        """The kind that is priced for."""
        return self.table.gpus[self.kind]

    @cached_property
    def volumes(self) -> Volumes:
        """Counts and lengths."""
        return Volumes(self.pipeline, self.table.lengths)

    def asked(self, source: str, domains: Collection[str] | None = None) -> Asked:
        """Prompts and responses of a source; of some domains, or of all."""
        asked = self.volumes.asked(source, domains)
        if asked is None:
            raise UnknownPrice(NO_PROMPTS)
        return asked

    def rows(self, table: str) -> tuple[int, str]:
        """Rows of a training table, and how they are known."""
        count, basis = self.volumes.rows(table)
        if count is None:
            raise UnknownPrice(NO_ROWS if self.recipe.build.imported.tables() else NO_PROMPTS)
        return count, basis

    def lengths(self, table: str, names: Sequence[str]) -> tuple[float, list[float]]:
        """Tokens of a prompt and of each named response of a table, as truncation leaves them."""
        source, target = self.volumes.source_response().tokens, self.volumes.response(TARGET).tokens
        by_sources = table in ("sft", "pairs", "source_pairs", "delta") or (
            table == "rejection" and self.recipe.build.rejection.responses_of == "sources"
        )
        wanted = [source if by_sources or name == "source_chosen" else target for name in names]
        limits = self.recipe.truncation
        prompt = min(self.volumes.prompt.tokens, limits.max_prompt_length or limits.max_length)
        return prompt, [min(response, limits.max_length - prompt) for response in wanted]

    def shape(self, entry: Model) -> Shape:
        """Size and shape of a model."""
        shape = shape_of(
            entry.model,
            revision=entry.revision,
            parameters_b=entry.parameters_b,
            active_b=entry.active_parameters_b,
        )
        if shape is None:
            raise UnknownPrice(unknown_size(entry.model, "write its parameters_b"))
        return shape

    def decode_speed(
        self, work: Work, source: str, shape: Shape, capacity: Capacity, *, context: float
    ) -> tuple[float, str]:
        """Response tokens per second and GPU, and where that is from."""
        row = self._measured_row(source, work.gpus)
        if row:
            work.basis = "measured"
            origin = f"measured over {row.seconds:,.0f} s, prompts included"
            return row.decode_tokens_per_s, origin
        bandwidth = self.gpu.bandwidth_tb_s * 1e12
        bound = decode_bound(
            shape, sequences=capacity.sequences, context=context, bytes_per_s=bandwidth
        )
        size = shape.decode_billions
        speed = min(decode_speed(self.gpu, size), bound)
        origin = (
            f"table for {size:,.3g}B, {shape.basis}; the memory's bandwidth allows {bound:,.0f}"
        )
        return speed, origin

    def _measured_row(self, source: str, gpus: int) -> Measured | None:
        name = measured_name(self.recipe, source)
        rows = [
            row
            for row in self.measured
            if row.model == name and self.table.kind_of(row.gpu) == self.kind
        ]
        return min(rows, key=lambda row: abs(row.gpus - gpus), default=None)


def measured_name(recipe: Recipe, source: str) -> str:
    """How a measured row calls the model of a source, or the fine-tuned target."""
    entry = sampling_model(recipe, source)
    name = model_identity(entry.model, entry.revision)
    return f"{name} after sft" if source == TARGET else name

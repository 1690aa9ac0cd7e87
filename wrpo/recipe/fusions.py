"""Fusions: several sources that answer together, without training, as one more source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field, field_validator

from wrpo.engines.fusion.rule import Aggregate, PerplexityUnit
from wrpo.recipe.sampling import EngineOverride, Model, SamplingOverride
from wrpo.settings import Section


class ModelFusion(Section):
    """Sources whose responses are fused while they are written (Cool-Fusion, arXiv 2407.19807)."""

    members: list[str] = Field(min_length=1, description="Sources of the recipe, by name.")
    method: Literal["rerank", "segments", "both"] = Field(
        "rerank",
        description="rerank: each member answers alone, and all members choose one of the "
        "responses. segments: they choose word by word; greedy only. both: the response by "
        "segments is one more to choose from.",
    )
    boundary: Literal["shortest", "aligned"] = Field(
        "shortest",
        description="segments: each is the shortest up to the end of a word; aligned: up to one "
        "that is the end of a token for every member.",
    )
    aggregate: Aggregate = Field(
        "mean_ppl", description="mean_ppl: the mean of perplexities; mean_nll: of their logarithms."
    )
    unit: PerplexityUnit = Field(
        "byte",
        description="What a perplexity is per: a byte of the text, the same for all members, or a "
        "token of each.",
    )
    domains: list[str] | None = Field(
        None, min_length=1, description="Only prompts of these domains; unset: all."
    )
    sampling: SamplingOverride = Field(
        default_factory=SamplingOverride, description="What differs from `sample` here."
    )
    engine: EngineOverride = Field(
        default_factory=EngineOverride, description="What differs from `sample.engine`."
    )

    @field_validator("members")
    @classmethod
    def _distinct(cls, members: list[str]) -> list[str]:
        if twice := sorted({name for name in members if members.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} is named twice; a copy adds nothing")
        return members


@dataclass(frozen=True)
class FusedModels:
    """A fusion as an engine loads it: what it is, and the entries of its members by name."""

    fusion: ModelFusion
    members: dict[str, Model]

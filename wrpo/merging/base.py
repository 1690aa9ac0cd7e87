"""What a way to merge models is. Each file beside this one is one method.

A method is a pure function of tensors: the matrix of the base and the same matrix of every model
in, the merged matrix out. It sees one matrix at a time, so that models larger than memory can be
merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from wrpo.settings import Section

if TYPE_CHECKING:
    from torch import Tensor


class MergeSettings(Section):
    """What every method has; a class with a field `method: Literal[NAME]` is a method.

    Attributes:
        label: its name in tables of the report.
    """

    label: ClassVar[str]

    method: str = ""
    models: list[str] = Field(
        min_length=1, description="Trained models of this run: names of arms, wrpo, or sft."
    )
    base: str = Field("sft", description="The trained model that differences are taken from.")

    @field_validator("models")
    @classmethod
    def _distinct(cls, models: list[str]) -> list[str]:
        twice = sorted({name for name in models if models.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named twice")
        return models

    @property
    def inputs(self) -> tuple[str, ...]:
        """The stages whose models are read, the base first."""
        return tuple(dict.fromkeys([self.base, *self.models]))

    def merge(self, base: Tensor, models: Sequence[Tensor]) -> Tensor:
        """The merged matrix.

        Args:
            base: of any shape, in the precision to compute in.
            models: the same matrix of each model, in the order of `models`.
        """
        raise NotImplementedError


class WeightedMerge(MergeSettings):
    """What methods share that are told the weight of each model."""

    weight: ClassVar[float | None] = None
    """Of each model, where the recipe does not say; None: 1 / number of models."""

    weights: list[float] | None = Field(
        None, description="One for each of `models`; unset: what the method's page says."
    )

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.models):
            raise ValueError(
                f"weights has {len(self.weights)} numbers, and models has {len(self.models)} names"
            )
        return self

    @property
    def factors(self) -> list[float]:
        """The weight of each model."""
        count = len(self.models)
        each = 1 / count if self.weight is None else self.weight
        return self.weights if self.weights is not None else [each] * count

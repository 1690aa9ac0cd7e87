"""What objectives share whose loss is a function of one difference of rewards: WRPO and DPO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wrpo.objectives.base import LogProbPlace, PreferenceSettings
from wrpo.objectives.options import (
    LENGTH_NORMALISED,
    FusionRule,
    PreferenceLoss,
    loss_problem,
)
from wrpo.settings import Section

if TYPE_CHECKING:
    from wrpo.objectives.reference import LogProbTable
    from wrpo.pipeline.tables import Row


class Fusion(Section):
    """How `reference: fused` joins the initial policy and the sources (InfiFPO)."""

    rule: FusionRule = Field(
        "max_margin",
        description="max_margin: the source that differs most; average; confidence: weighted mean.",
    )
    clip: bool = Field(
        True, description="Never below the initial policy where preferred, nor above it elsewhere."
    )


@dataclass(frozen=True)
class PairLoss:
    """Shape of the loss of one preference; see `wrpo.losses.preference_loss`."""

    beta: float
    loss: str = "sigmoid"
    margin: float = 0.0
    label_smoothing: float = 0.0

    @property
    def length_normalised(self) -> bool:
        """Whether the loss takes means over tokens."""
        return self.loss in LENGTH_NORMALISED


class PairLossSettings(PreferenceSettings):
    """What objectives share whose loss is a function of one difference of rewards."""

    options: ClassVar[dict[str, str]] = {
        **PreferenceSettings.options,
        "loss_type": "loss",
        "margin": "margin",
        "label_smoothing": "label_smoothing",
        "reference_free": "reference",
    }

    loss: PreferenceLoss = Field(
        "sigmoid",
        description="sigmoid; sigmoid_norm, length-normalised; hinge; ipo.",
    )
    margin: float = Field(0.0, ge=0.0, description="What the scaled difference must exceed.")
    label_smoothing: float = Field(0.0, ge=0.0, lt=0.5, description="Share of flipped labels.")
    reference: Literal["precomputed", "model", "fused", "none"] = Field(
        "precomputed",
        description="precomputed: log-probs of the SFT model from a table; model: keep it loaded; "
        "fused: of the SFT model and the sources (InfiFPO); none: reference-free.",
    )
    fusion: Fusion = Field(default_factory=Fusion, description="For reference: fused.")

    @model_validator(mode="after")
    def _loss_has_these_options(self) -> Self:
        smoothing = self.label_smoothing
        if problem := loss_problem(self.loss, margin=self.margin, label_smoothing=smoothing):
            raise ValueError(problem)
        return self

    @property
    def form(self) -> PairLoss:
        """The loss of one preference."""
        return PairLoss(self.beta, self.loss, self.margin, self.label_smoothing)

    def flat_options(self) -> dict[str, Any]:
        return {**super().flat_options(), "reference_free": self.reference == "none"}

    @classmethod
    def fields_of(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        fields = super().fields_of(options)
        if "reference" in fields:
            fields["reference"] = "none" if fields["reference"] else "precomputed"
        return fields

    def logprob_tables(self, sources: Sequence[str]) -> list[LogProbPlace]:
        fused = [(source, self.data) for source in sources] if self.reference == "fused" else []
        return [*super().logprob_tables(sources), *fused]

    def with_reference(
        self, rows: list[Row], tables: Mapping[LogProbPlace, LogProbTable]
    ) -> list[Row]:
        from wrpo.objectives.reference import with_fused_reference
        from wrpo.pipeline.tables import ROW_RESPONSES

        if self.reference != "fused":
            return super().with_reference(rows, tables)
        return with_fused_reference(
            rows,
            tables["sft", self.data],
            {model: table for (model, _), table in tables.items() if model != "sft"},
            responses=ROW_RESPONSES[self.data],
            fusion=self.fusion,
            length_normalised=self.form.length_normalised,
        )

    def summary(self) -> str:
        loss = "" if self.loss == "sigmoid" else f" with loss {self.loss}"
        return f"Objective {self.objective}{loss} on {self.data}, beta {self.beta:g}"

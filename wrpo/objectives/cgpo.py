"""Consensus-guided preference optimisation: y_ws and y_wt are desirable, y_l is not (CGPO, 2026).

Each response is moved by itself. The reference of y_l is the aligned consensus of the sources, and
a fourth response, the anchor, responses another prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from wrpo.objectives.base import LogProbPlace, Objective, PreferenceSettings, Progress
from wrpo.settings import Section

if TYPE_CHECKING:
    from torch import Tensor

    from wrpo.objectives.base import Losses
    from wrpo.objectives.reference import LogProbTable
    from wrpo.pipeline.tables import Row


class Consensus(Section):
    """Consensus-guided preference optimisation: its own weights, and those of the sources."""

    desirable_weight: float = Field(1.2, ge=0.0, description="Factor of the preferred responses.")
    undesirable_weight: float = Field(1.0, ge=0.0, description="Factor of the rejected response.")
    warmup_start: int = Field(0, ge=0, description="Optimizer steps before that factor grows.")
    warmup_steps: int = Field(100, ge=0, description="Optimizer steps until it is there.")
    weighting: Literal["entropy", "uniform"] = Field(
        "entropy", description="entropy: sources surer than usual weigh more; uniform: all alike."
    )
    temperature: float = Field(0.8, gt=0.0, description="Softness of the sources' weights.")
    floor: float = Field(0.02, ge=0.0, lt=1.0, description="Least weight of a source.")


class CGPOSettings(PreferenceSettings):
    """CGPO on triples."""

    label: ClassVar[str] = "CGPO"
    phrase: ClassVar[str] = "CGPO"
    loss_by_row: ClassVar[bool] = False
    options: ClassVar[dict[str, str]] = {
        **PreferenceSettings.options,
        "desirable_weight": "cgpo.desirable_weight",
        "undesirable_weight": "cgpo.undesirable_weight",
        "undesirable_warmup_start": "cgpo.warmup_start",
        "undesirable_warmup_steps": "cgpo.warmup_steps",
    }

    objective: Literal["cgpo"] = "cgpo"
    reference: Literal["precomputed"] = Field(
        "precomputed", description="Log-probs of the SFT model and the sources, from tables."
    )
    cgpo: Consensus = Field(default_factory=Consensus, description="Its own weights.")

    def logprob_tables(self, sources: Sequence[str]) -> list[LogProbPlace]:
        initial = [("sft", self.data), ("sft", "anchors")]
        return [*initial, *((source, self.data) for source in sources)]

    def with_reference(
        self, rows: list[Row], tables: Mapping[LogProbPlace, LogProbTable]
    ) -> list[Row]:
        from wrpo.objectives.reference import with_anchors, with_consensus, with_reference
        from wrpo.pipeline.tables import ROW_RESPONSES

        initial = {**tables["sft", self.data], **tables["sft", "anchors"]}
        sources = {model: table for (model, _), table in tables.items() if model != "sft"}
        responses = ROW_RESPONSES[self.data]
        rows = with_consensus(rows, initial, sources, responses=responses, settings=self.cgpo)
        return with_reference(with_anchors(rows), initial, responses=["anchor"])

    def build(self) -> Objective:
        return CGPO(
            beta=self.beta,
            desirable_weight=self.cgpo.desirable_weight,
            undesirable_weight=self.cgpo.undesirable_weight,
            warmup_start=self.cgpo.warmup_start,
            warmup_steps=self.cgpo.warmup_steps,
        )


@dataclass(frozen=True)
class CGPO:
    """The objective; see `wrpo.losses.cgpo_loss`.

    The undesirable side grows from nothing to its weight over `warmup_steps` optimizer steps after
    `warmup_start`.
    """

    beta: float
    desirable_weight: float
    undesirable_weight: float
    warmup_start: int
    warmup_steps: int

    @property
    def responses(self) -> tuple[str, ...]:
        return ("source_chosen", "chosen", "rejected", "anchor")

    @property
    def length_normalised(self) -> bool:
        return True

    def weights(self, progress: Progress) -> dict[str, float]:
        done = progress.step - self.warmup_start
        share = min(1.0, max(0.0, done / self.warmup_steps)) if self.warmup_steps else 1.0
        return {"undesirable_weight": share * self.undesirable_weight}

    def __call__(self, rewards: Mapping[str, Tensor], progress: Progress) -> Losses:
        import torch

        from wrpo.losses import cgpo_loss

        source, target, rejected, anchor = (rewards[name] for name in self.responses)
        losses = cgpo_loss(
            torch.stack([source, target], dim=1),
            rejected[:, None],
            anchor,
            beta=self.beta,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.weights(progress)["undesirable_weight"],
        )
        return losses, {
            "rewards/source_chosen": self.beta * source,
            "rewards/chosen": self.beta * target,
            "rewards/rejected": self.beta * rejected,
            "rewards/anchor": self.beta * anchor,
        }

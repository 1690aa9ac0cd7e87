"""Weighted-reward preference optimisation of (y_ws, y_wt, y_l): WRPO (arXiv 2412.03187)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from wrpo.objectives.base import Objective, Progress
from wrpo.objectives.options import AlphaSchedule, alpha_at
from wrpo.objectives.pair_loss import PairLoss, PairLossSettings
from wrpo.settings import Section, Share

if TYPE_CHECKING:
    from torch import Tensor

    from wrpo.objectives.base import Losses


class Alpha(Section):
    """The fusion coefficient: the weight of the source response in the preferred reward."""

    start: Share = Field(0.0, description="Value at the first update.")
    end: Share = Field(0.1, description="Value at the end of training.")
    schedule: AlphaSchedule = Field(
        "linear",
        description="linear or cosine: start to end over the steps; constant: always end.",
    )


class WRPOSettings(PairLossSettings):
    """WRPO on triples: the preferred reward is a weighted mean of source and target."""

    label: ClassVar[str] = "WRPO"
    phrase: ClassVar[str] = "the WRPO variant"
    options: ClassVar[dict[str, str]] = {
        **PairLossSettings.options,
        "alpha": "alpha.end",
        "alpha_start": "alpha.start",
        "alpha_schedule": "alpha.schedule",
    }

    objective: Literal["wrpo"] = "wrpo"
    alpha: Alpha = Field(default_factory=Alpha, description="The fusion coefficient.")

    def build(self) -> Objective:
        return WRPO(self.form, self.alpha.end, self.alpha.start, self.alpha.schedule)

    @property
    def fused_phrase(self) -> str:
        return self.label

    def summary(self) -> str:
        return f"{super().summary()}, alpha {self.alpha.schedule} to {self.alpha.end:g}"


@dataclass(frozen=True)
class WRPO:
    """The objective; see `wrpo.losses.wrpo_loss`."""

    form: PairLoss
    alpha: float
    alpha_start: float = 0.0
    alpha_schedule: str = "linear"

    @property
    def responses(self) -> tuple[str, ...]:
        return ("source_chosen", "chosen", "rejected")

    @property
    def length_normalised(self) -> bool:
        return self.form.length_normalised

    def weights(self, progress: Progress) -> dict[str, float]:
        alpha = alpha_at(
            self.alpha_schedule,
            start=self.alpha_start,
            end=self.alpha,
            step=progress.step,
            max_steps=progress.max_steps,
        )
        return {"alpha": alpha}

    def __call__(self, rewards: Mapping[str, Tensor], progress: Progress) -> Losses:
        from wrpo.losses import wrpo_loss

        alpha, form = self.weights(progress)["alpha"], self.form
        source, target, rejected = (rewards[name] for name in self.responses)
        losses = wrpo_loss(source, target, rejected, alpha=alpha, **asdict(form))
        weighted = alpha * source + (1.0 - alpha) * target
        return losses, {
            "rewards/source_chosen": form.beta * source,
            "rewards/chosen": form.beta * target,
            "rewards/weighted": form.beta * weighted,
            "rewards/rejected": form.beta * rejected,
            "rewards/accuracies": (weighted > rejected).float(),
            "rewards/source_accuracies": (source > rejected).float(),
            "rewards/target_accuracies": (target > rejected).float(),
            "rewards/margins": form.beta * (weighted - rejected),
        }

"""The objectives a recipe can name: which responses each one reads, and its loss and metrics.

An objective is a frozen set of numbers and one call: implicit rewards by response name in, loss and
metrics of each prompt out. The formulas are in `wrpo.losses`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from wrpo.losses import cgpo_loss, preference_loss, wrpo_loss
from wrpo.objectives.options import LENGTH_NORMALISED, alpha_at
from wrpo.rows.columns import RESPONSES

if TYPE_CHECKING:
    from wrpo.config import WRPOConfig

Losses = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class Progress:
    """How far training is: finished optimizer steps, of how many."""

    step: int
    max_steps: int


END = Progress(step=sys.maxsize, max_steps=1)
"""After training, where every schedule has arrived: what evaluation uses."""


class Objective(Protocol):
    """What the trainer asks of an objective."""

    @property
    def responses(self) -> tuple[str, ...]:
        """Names of the responses whose implicit reward is read."""

    @property
    def length_normalised(self) -> bool:
        """Whether implicit rewards are means over tokens instead of sums."""

    def weights(self, progress: Progress) -> dict[str, float]:
        """Scheduled weights at this point of training, by the name under which they are logged."""

    def __call__(self, rewards: Mapping[str, Tensor], progress: Progress) -> Losses:
        """Loss (n,) and metrics (n,) from the implicit reward u (n,) of each response."""


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


@dataclass(frozen=True)
class WRPO:
    """Weighted-reward preference optimisation of (y_ws, y_wt, y_l)."""

    form: PairLoss
    alpha: float
    alpha_start: float = 0.0
    alpha_schedule: str = "linear"

    @property
    def responses(self) -> tuple[str, ...]:
        return RESPONSES

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
        alpha, form = self.weights(progress)["alpha"], self.form
        source, target, rejected = (rewards[name] for name in RESPONSES)
        losses = wrpo_loss(
            source,
            target,
            rejected,
            alpha=alpha,
            **asdict(form),
        )
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


@dataclass(frozen=True)
class DPO:
    """Direct preference optimisation of (y_wt, y_l), on pairs or on triples."""

    form: PairLoss

    @property
    def responses(self) -> tuple[str, ...]:
        return ("chosen", "rejected")

    @property
    def length_normalised(self) -> bool:
        return self.form.length_normalised

    def weights(self, progress: Progress) -> dict[str, float]:
        return {}

    def __call__(self, rewards: Mapping[str, Tensor], progress: Progress) -> Losses:
        form = self.form
        chosen, rejected = rewards["chosen"], rewards["rejected"]
        losses = preference_loss(chosen - rejected, **asdict(form))
        return losses, {
            "rewards/chosen": form.beta * chosen,
            "rewards/rejected": form.beta * rejected,
            "rewards/accuracies": (chosen > rejected).float(),
            "rewards/margins": form.beta * (chosen - rejected),
        }


@dataclass(frozen=True)
class CGPO:
    """Consensus-guided preference optimisation: y_ws and y_wt are desirable, y_l is not.

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
        return (*RESPONSES, "anchor")

    @property
    def length_normalised(self) -> bool:
        return True

    def weights(self, progress: Progress) -> dict[str, float]:
        done = progress.step - self.warmup_start
        share = min(1.0, max(0.0, done / self.warmup_steps)) if self.warmup_steps else 1.0
        return {"undesirable_weight": share * self.undesirable_weight}

    def __call__(self, rewards: Mapping[str, Tensor], progress: Progress) -> Losses:
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


def objective_of(args: WRPOConfig) -> Objective:
    """The objective that training options name."""
    if args.objective == "cgpo":
        return CGPO(
            beta=args.beta,
            desirable_weight=args.desirable_weight,
            undesirable_weight=args.undesirable_weight,
            warmup_start=args.undesirable_warmup_start,
            warmup_steps=args.undesirable_warmup_steps,
        )
    form = PairLoss(args.beta, args.loss, args.margin, args.label_smoothing)
    if args.objective == "dpo":
        return DPO(form)
    return WRPO(form, args.alpha, args.alpha_start, args.alpha_schedule)

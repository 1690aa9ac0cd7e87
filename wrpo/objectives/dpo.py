"""Direct preference optimisation of (chosen, rejected), on pairs or triples (arXiv 2305.18290).

With the losses of `wrpo.losses.preference_loss` it is also length-normalised DPO (FuseChat-3.0),
IPO, SLiC's hinge, and without a reference and with a margin SimPO.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from wrpo.objectives.base import Objective, Progress
from wrpo.objectives.pair_loss import PairLoss, PairLossSettings

if TYPE_CHECKING:
    from torch import Tensor

    from wrpo.objectives.base import Losses


class DPOSettings(PairLossSettings):
    """DPO of the target's own best and worst response, of same-source pairs, or of two models."""

    label: ClassVar[str] = "DPO"
    phrase: ClassVar[str] = "DPO"
    tables: ClassVar[tuple[str, ...]] = ("triples", "pairs", "source_pairs", "delta")

    objective: Literal["dpo"] = "dpo"

    def build(self) -> Objective:
        return DPO(self.form)


@dataclass(frozen=True)
class DPO:
    """The objective; see `wrpo.losses.preference_loss`."""

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
        from wrpo.losses import preference_loss

        form = self.form
        chosen, rejected = rewards["chosen"], rewards["rejected"]
        losses = preference_loss(chosen - rejected, **asdict(form))
        return losses, {
            "rewards/chosen": form.beta * chosen,
            "rewards/rejected": form.beta * rejected,
            "rewards/accuracies": (chosen > rejected).float(),
            "rewards/margins": form.beta * (chosen - rejected),
        }

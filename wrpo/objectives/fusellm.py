"""FuseLLM: likelihood, and the distributions of the teacher that finds a response likeliest.

Per response y with the c_m of every model m, its mean negative log-prob per token (arXiv
2401.10491, steps 5, 7 and 8):

    T    = the distributions of argmin_m c_m   (min_ce),  or sum_m w_m P_m   (avg_ce)
    loss = clm_weight * NLL(y) + (1 - clm_weight) * D(T, student),   D cross-entropy or KL

Where no position of a teacher fits, T is the next label. For `avg_ce` the divergences are averaged,
which for the whole vocabulary is the divergence from the average up to a constant.

`upstream` does what the released code does: it compares 1 / exp(c) in bfloat16, normalises stored
entries to 1, and takes T by an unshifted mask, so that T is the current token where no teacher fits
and the position behind the end counts, of which the tables know nothing: no teacher fits there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from wrpo.distillation.alignment import VocabularyMap
from wrpo.distillation.choose import Choice, is_tied, teacher_weights
from wrpo.distillation.settings import STUDENT, Learned, Lesson, TeacherSettings, known_teacher
from wrpo.objectives.base import LogitPlace
from wrpo.settings import Share

if TYPE_CHECKING:
    from torch import Tensor

    from wrpo.distillation.settings import BatchLosses, StoredRows


class FuseLLMSettings(TeacherSettings):
    """FuseLLM on one response of each triple."""

    label: ClassVar[str] = "FuseLLM"
    phrase: ClassVar[str] = "FuseLLM"

    objective: Literal["fusellm"] = "fusellm"
    teachers: list[str] | None = Field(
        None, min_length=1, description="Sources whose distributions are read; unset: all."
    )
    itself: bool = Field(True, description="The SFT model's own distributions may be chosen too.")
    on: Literal["source_chosen", "chosen"] = Field(
        "source_chosen", description="The response that is learned."
    )
    choose: Choice = Field("min_ce", description="min_ce: one teacher; avg_ce: a mean of all.")
    clm_weight: Share = Field(0.9, description="Weight of the likelihood (lambda).")
    divergence: Literal["ce", "kl"] = Field(
        "ce", description="Of the teacher's distributions; their gradients are the same."
    )
    vocabulary: VocabularyMap = Field(
        "hard", description="How tokens of teachers become the target's: docs/explicit-fusion.md."
    )

    @property
    def responses(self) -> tuple[str, ...]:
        return (self.on,)

    @property
    def vocabulary_map(self) -> VocabularyMap:
        return self.vocabulary

    @property
    def unshifted(self) -> bool:
        return self.upstream

    def logit_tables(self, sources: Sequence[str]) -> list[LogitPlace]:
        names = sources if self.teachers is None else self.teachers
        named = [known_teacher(name, sources, field="teachers") for name in names]
        return [LogitPlace(name, self.on) for name in [*([STUDENT] * self.itself), *named]]

    def lessons(
        self, response: str, stored: StoredRows, said_by: str | None = None
    ) -> list[Lesson]:
        from wrpo.distillation.table import stored_of

        costs = {place.model: row["mean_nll"] for place, row in stored.items()}
        weights = teacher_weights(costs, self.choose, upstream=self.upstream)
        return [
            Lesson(weights[place.model], place.model, row["token_ids"], partial(stored_of, row))
            for place, row in stored.items()
            if weights[place.model] > 0
        ]

    def is_tied(self, stored: StoredRows) -> bool:
        costs = {place.model: row["mean_nll"] for place, row in stored.items()}
        return self.choose == "min_ce" and is_tied(costs, upstream=self.upstream)

    def loss(self, learned: Mapping[str, Learned], progress: float) -> BatchLosses:
        return fusion_loss(
            learned[self.on],
            clm_weight=self.clm_weight,
            divergence=self.divergence,
            renormalize=self.upstream,
        )

    def summary(self) -> str:
        return f"{super().summary()}, {self.choose}, likelihood weight {self.clm_weight:g}"


def fusion_loss(
    learned: Learned, *, clm_weight: float, divergence: str, renormalize: bool
) -> BatchLosses:
    """Loss and metrics (n,) of a batch; see the top of this file."""
    from wrpo.distillation import losses

    clm = negative_log_likelihood(learned)
    distance = clm.new_zeros(clm.shape)
    for teacher in learned.teachers:
        told = teacher.ids, teacher.logps, teacher.rest
        each = losses.cross_entropy(learned.logits, *told, renormalize=renormalize)
        if divergence == "kl":
            each = each - losses.entropy(*told[1:], renormalize=renormalize)
        distance = distance + teacher.weight * losses.mean_over(each, teacher.told)
    loss = clm if clm_weight == 1 else clm_weight * clm + (1 - clm_weight) * distance
    return loss, {"clm_loss": clm, "fusion_loss": distance}


def negative_log_likelihood(learned: Learned) -> Tensor:
    """Mean over the tokens of each response, (n,)."""
    from wrpo.distillation.losses import mean_over

    logits = learned.logits.float()
    picked = logits.gather(-1, learned.labels[..., None])[..., 0]
    return mean_over(logits.logsumexp(-1) - picked, learned.mask)

"""ProFuser: from the source that answers best to the one that finds the answer likeliest.

    L(source) = NLL(y) + divergence_weight * KL(source || student)
    loss      = w_inference L(the source that said y) + w_training L(argmin_s c_s),   y = y_ws

Two modes, and progress from the first to the second: arXiv 2408.04998 as its abstract has it. All
else is our reading, because its text and its code could not be read: that y_ws, the response of the
source whose answer is judged best, is the response of both modes; the weights of the two stages
(1, 0) and (0.1, 1), which one account names; half of the steps for each; the direction of the
divergence. `build.source_by: votes` lets several rewards vote for y_ws. With weights (0, 1) and
divergence_weight (1 - lambda) / lambda the gradient is FuseLLM's divided by lambda.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wrpo.distillation.alignment import VocabularyMap
from wrpo.distillation.choose import is_tied, teacher_weights
from wrpo.distillation.settings import Learned, Lesson, TeacherSettings, known_teacher
from wrpo.errors import DataError
from wrpo.objectives.base import LogitPlace
from wrpo.objectives.fusellm import negative_log_likelihood
from wrpo.settings import Section, Share

if TYPE_CHECKING:
    from wrpo.distillation.settings import BatchLosses, StoredRows


class ModeWeights(Section):
    """How much each mode counts in one stage."""

    inference: float = Field(ge=0.0, description="Of the source whose response was judged best.")
    training: float = Field(ge=0.0, description="Of the source that finds the response likeliest.")


class ProFuserSettings(TeacherSettings):
    """ProFuser on y_ws of triples; our reading."""

    label: ClassVar[str] = "ProFuser (our reading)"
    phrase: ClassVar[str] = "ProFuser, as we read it,"

    objective: Literal["profuser"] = "profuser"
    teachers: list[str] | None = Field(
        None, min_length=1, description="Sources whose distributions are read; unset: all."
    )
    divergence_weight: float = Field(1 / 9, ge=0.0, description="Weight of the divergence (beta).")
    first: ModeWeights = Field(
        default_factory=lambda: ModeWeights(inference=1.0, training=0.0),
        description="Weights of the first stage.",
    )
    second: ModeWeights = Field(
        default_factory=lambda: ModeWeights(inference=0.1, training=1.0),
        description="Weights of the second stage.",
    )
    first_share: Share = Field(0.5, description="Share of the steps that the first stage takes.")
    vocabulary: VocabularyMap = Field(
        "hard", description="How tokens of teachers become the target's: docs/explicit-fusion.md."
    )

    @model_validator(mode="after")
    def _has_no_released_code(self) -> Self:
        if self.upstream:
            raise ValueError("upstream is true, but ProFuser's code is not known; leave it out")
        return self

    @property
    def responses(self) -> tuple[str, ...]:
        return ("source_chosen",)

    @property
    def vocabulary_map(self) -> VocabularyMap:
        return self.vocabulary

    def logit_tables(self, sources: Sequence[str]) -> list[LogitPlace]:
        names = sources if self.teachers is None else self.teachers
        named = [known_teacher(name, sources, field="teachers") for name in names]
        return [LogitPlace(name, "source_chosen") for name in named]

    def weights_at(self, progress: float) -> ModeWeights:
        """The weights of the stage at this share of training."""
        return self.first if progress < self.first_share else self.second

    def lessons(
        self, response: str, stored: StoredRows, said_by: str | None = None
    ) -> list[Lesson]:
        """Of inference mode, then of training mode."""
        from wrpo.distillation.table import stored_of

        rows = {place.model: row for place, row in stored.items()}
        if said_by not in rows:
            raise DataError(
                f"a response is by {said_by}, whose distributions are not read; teachers: "
                f"{', '.join(rows)}. Name all sources with a model, or set rows_of to these"
            )
        costs = teacher_weights({name: row["mean_nll"] for name, row in rows.items()}, "min_ce")
        likeliest = max(costs, key=lambda name: costs[name])
        return [
            Lesson(1.0, name, rows[name]["token_ids"], partial(stored_of, rows[name]))
            for name in (said_by, likeliest)
        ]

    def is_tied(self, stored: StoredRows) -> bool:
        return is_tied({place.model: row["mean_nll"] for place, row in stored.items()})

    def loss(self, learned: Mapping[str, Learned], progress: float) -> BatchLosses:
        from wrpo.distillation import losses

        one = learned["source_chosen"]
        clm = negative_log_likelihood(one)
        found = []
        for teacher in one.teachers:
            each = losses.kl(one.logits, teacher.ids, teacher.logps, teacher.rest)
            found.append(losses.mean_over(each, teacher.told))
        inference, training = (clm + self.divergence_weight * kl for kl in found)
        weights = self.weights_at(progress)
        return weights.inference * inference + weights.training * training, {
            "clm_loss": clm,
            "kl/inference": found[0],
            "kl/training": found[1],
        }

    def summary(self) -> str:
        return f"{super().summary()}, first stage {self.first_share:.0%} of the steps"

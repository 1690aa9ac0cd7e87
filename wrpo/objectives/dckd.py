"""DCKD: likelihood of y_w, and an aligned teacher's distributions on both responses of a pair.

    loss = NLL(y_w) + kl_weight * (KL(y_w) + KL(y_l)),   KL(teacher || student), stored tokens

Dual-constrained knowledge distillation (arXiv 2502.17927), on y_wt and y_l of triples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from wrpo.distillation.settings import Learned, Lesson, PairTeacherSettings, known_teacher
from wrpo.objectives.base import LogitPlace
from wrpo.objectives.fusellm import negative_log_likelihood

if TYPE_CHECKING:
    from wrpo.distillation.settings import BatchLosses, StoredRows


class DCKDSettings(PairTeacherSettings):
    """DCKD from one teacher with the target's tokenizer."""

    label: ClassVar[str] = "DCKD"
    phrase: ClassVar[str] = "DCKD"

    objective: Literal["dckd"] = "dckd"
    teacher: str = Field(description="The source whose distributions are learned.")
    kl_weight: float = Field(0.1, ge=0.0, description="Weight of both divergences.")

    def logit_tables(self, sources: Sequence[str]) -> list[LogitPlace]:
        name = known_teacher(self.teacher, sources, field="teacher")
        return [LogitPlace(name, response) for response in self.responses]

    def lessons(
        self, response: str, stored: StoredRows, said_by: str | None = None
    ) -> list[Lesson]:
        from wrpo.distillation.table import stored_of

        row = stored[LogitPlace(self.teacher, response)]
        return [Lesson(1.0, self.teacher, row["token_ids"], partial(stored_of, row))]

    def loss(self, learned: Mapping[str, Learned], progress: float) -> BatchLosses:
        from wrpo.distillation import losses

        likelihood = negative_log_likelihood(learned["chosen"])
        found = {}
        for name, one in learned.items():
            (teacher,) = one.teachers
            each = losses.kl(one.logits, teacher.ids, teacher.logps, teacher.rest)
            found[name] = losses.mean_over(each, teacher.told)
        loss = likelihood
        if self.kl_weight:
            loss = likelihood + self.kl_weight * (found["chosen"] + found["rejected"])
        return loss, {"clm_loss": likelihood, **{f"kl/{name}": kl for name, kl in found.items()}}

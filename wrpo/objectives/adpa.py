"""ADPA: likelihood of y_w, and a teacher's advantages on the student's own response.

    A(s, a) = log pi_teacher(a | s) - log pi_reference(a | s)   for stored tokens, else 0
    loss    = NLL(y_w) - gamma * mean_t sum_a pi_student(a | s_t) A(s_t, a)

Advantage-guided distillation (arXiv 2502.17927). s_t runs over y_l, which the SFT model said. The
second term is linear in the student's probabilities and alone collapses to one token per position.
`upstream` clamps A to (0, 1), as the released code does. The reference is looked up at the
teacher's tokens; the released code fills in those that its table lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wrpo.distillation.alignment import Stored
from wrpo.distillation.settings import Learned, Lesson, PairTeacherSettings, known_teacher
from wrpo.objectives.base import LogitPlace
from wrpo.objectives.fusellm import negative_log_likelihood

if TYPE_CHECKING:
    from wrpo.distillation.settings import BatchLosses, StoredRows


class ADPASettings(PairTeacherSettings):
    """ADPA from a teacher and the model that it was trained from, with the target's tokenizer."""

    label: ClassVar[str] = "ADPA"
    phrase: ClassVar[str] = "ADPA"

    objective: Literal["adpa"] = "adpa"
    teacher: str = Field(description="The source after preference training.")
    teacher_reference: str = Field(description="The source that it was trained from.")
    gamma: float = Field(1.6, ge=0.0, description="Weight of the advantage.")

    @model_validator(mode="after")
    def _two_models(self) -> Self:
        if self.teacher == self.teacher_reference:
            raise ValueError(f"teacher and teacher_reference are both {self.teacher}: no advantage")
        return self

    def logit_tables(self, sources: Sequence[str]) -> list[LogitPlace]:
        teacher = known_teacher(self.teacher, sources, field="teacher")
        before = known_teacher(self.teacher_reference, sources, field="teacher_reference")
        return [LogitPlace(teacher, "rejected"), LogitPlace(before, "rejected", teacher)]

    def lessons(
        self, response: str, stored: StoredRows, said_by: str | None = None
    ) -> list[Lesson]:
        if response == "chosen":
            return []
        after = stored[LogitPlace(self.teacher, response)]
        before = stored[LogitPlace(self.teacher_reference, response, self.teacher)]
        read = partial(_advantages, after, before)
        return [Lesson(1.0, self.teacher, after["token_ids"], read)]

    def loss(self, learned: Mapping[str, Learned], progress: float) -> BatchLosses:
        from wrpo.distillation import losses

        likelihood = negative_log_likelihood(learned["chosen"])
        own = learned["rejected"]
        (told,) = own.teachers
        # Where a response has fewer entries than another, -inf stands for none.
        values = told.logps.masked_fill(told.logps.isinf(), 0.0)
        each = losses.expected_advantage(own.logits, told.ids, values, clip=self.upstream)
        advantage = losses.mean_over(each, own.mask)
        loss = likelihood - self.gamma * advantage if self.gamma else likelihood
        log = own.logits.float().log_softmax(-1)
        entropy = losses.mean_over(-(log.exp() * log).sum(-1), own.mask)
        return loss, {"clm_loss": likelihood, "advantage": advantage, "entropy": entropy}


def _advantages(after: Mapping[str, Any], before: Mapping[str, Any]) -> Stored:
    """Advantages in place of log-probs, from the rows of a teacher and of its reference."""
    advantage = [
        [log - other for log, other in zip(logs, others, strict=True)]
        for logs, others in zip(after["top_logps"], before["top_logps"], strict=True)
    ]
    return Stored(after["top_ids"], advantage, [0.0] * len(advantage))

"""What objectives share that learn from distributions of teachers.

Such an objective says which tables it reads, which distributions belong to a response (a list of
weight, model and stored distributions, under that model's tokenizer), and the loss of a batch. A
response is averaged over its tokens, and a batch over its prompts: long responses do not dominate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pydantic import Field

from wrpo.distillation.alignment import Stored, VocabularyMap
from wrpo.errors import RecipeError
from wrpo.objectives.base import LogitPlace, ObjectiveSettings

if TYPE_CHECKING:
    from torch import Tensor

    BatchLosses = tuple[Tensor, dict[str, Tensor]]

STUDENT = "sft"

StoredRows = Mapping[LogitPlace, Mapping[str, Any]]
"""Rows of `wrpo.pipeline.tables.TEACHER_LOGITS` of one response, by table."""


class Lesson(NamedTuple):
    """Distributions of one teacher for one response.

    Attributes:
        weight: among the teachers of that response.
        model: whose tokens these are.
        token_ids: of the response, under that model's tokenizer.
        decode: reads the distributions, so that counting positions does not.
    """

    weight: float
    model: str
    token_ids: list[int]
    decode: Callable[[], Stored]

    @property
    def stored(self) -> Stored:
        """The distributions, read anew each time."""
        return self.decode()


class Distributions(NamedTuple):
    """Of one teacher each, for a batch of responses.

    Attributes:
        ids, logps: (n, L, k).
        rest: (n, L).
        told: whether there is a distribution, (n, L).
        weight: (n,).
    """

    ids: Tensor
    logps: Tensor
    rest: Tensor
    told: Tensor
    weight: Tensor


class Learned(NamedTuple):
    """One response of each prompt of a batch, as the student sees it.

    Attributes:
        logits: (n, L, V), each of which predicts a token of the response.
        labels: those tokens, (n, L).
        mask: whether there is one, (n, L).
        teachers: as many as the response with the most has.
    """

    logits: Tensor
    labels: Tensor
    mask: Tensor
    teachers: list[Distributions]


class TeacherSettings(ObjectiveSettings):
    """Objectives that read `teacher_logits`."""

    config: ClassVar[str] = "TrainingArguments"
    trained_by: ClassVar[str] = "wrpo.distillation.train:train_with_teachers"

    upstream: bool = Field(
        False, description="Reproduce what the released code does where it departs from its paper."
    )

    @property
    def vocabulary_map(self) -> VocabularyMap:
        """How tokens of teachers become tokens of the student."""
        return "hard"

    @property
    def needs_one_tokenizer(self) -> bool:
        """Whether teachers must have the student's tokens."""
        return False

    @property
    def unshifted(self) -> bool:
        """Whether targets are of the token at a position instead of the next one where no teacher
        fits, and the position behind the end counts: traps of FuseLLM's released code."""
        return False

    def lessons(
        self, response: str, stored: StoredRows, said_by: str | None = None
    ) -> list[Lesson]:
        """What the teachers say of one response.

        Args:
            stored: the rows of that response, by table.
            said_by: the source that gave it, or "target".
        """
        raise NotImplementedError

    def is_tied(self, stored: StoredRows) -> bool:
        """Whether names decide which teacher a response is learned from."""
        return False

    def loss(self, learned: Mapping[str, Learned], progress: float) -> BatchLosses:
        """Loss (n,) and metrics (n,) of a batch, by prompt.

        Args:
            learned: by name of the response.
            progress: share of training that is done.
        """
        raise NotImplementedError


class PairTeacherSettings(TeacherSettings):
    """Teachers with the target's tokenizer, on the responses that the SFT model said."""

    @property
    def responses(self) -> tuple[str, ...]:
        return ("chosen", "rejected")

    @property
    def needs_one_tokenizer(self) -> bool:
        return True


def known_teacher(name: str, sources: Sequence[str], *, field: str) -> str:
    """The name.

    Raises:
        RecipeError: no source is called so.
    """
    if name not in sources:
        raise RecipeError(
            f'{field}: no source "{name}" with a model; sources: {", ".join(sources)}'
        )
    return name

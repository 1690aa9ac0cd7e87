"""Tasks of the package reasoning-gym, scored by the function that comes with each family."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from wrpo.chat.limits import TooMuch, limited
from wrpo.errors import ModelError
from wrpo.pipeline.tables import Drop
from wrpo.rewards.base import NO_ANSWER, RewardSettings, SelfCheck, Verifier

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline

logger = logging.getLogger(__name__)

EXECUTED = frozenset(
    {
        *("binary_matrix", "bitwise_arithmetic", "countdown", "intermediate_integration"),
        *("n_queens", "number_sorting", "polynomial_multiplication", "puzzle24"),
        *("simple_integration", "spiral_matrix", "string_insertion"),
    }
)
"""Families whose scoring hands text of a response or a row to `eval`, as sympy's parser does."""

_LIMIT_S = 5.0


class Task(NamedTuple):
    """What scoring needs of a task.

    Attributes:
        answer: None for a family whose tasks have many right answers, and none is given.
    """

    family: str
    answer: str | None
    metadata: dict[str, Any]


class ReasoningGymReward(RewardSettings):
    """The score of reasoning-gym for a task, 0 to 1, partial credit included."""

    type: Literal["reasoning_gym"]
    tag: str | None = Field(
        "answer",
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description="The answer stands in the last <tag> and </tag>. null: it is all of the "
        "response.",
    )

    def load(self, pipeline: Pipeline | None = None) -> ReasoningGymVerifier:
        """The verifier."""
        return ReasoningGymVerifier(self)

    def self_check(self, reference_answer: str) -> SelfCheck:
        """The answer that comes with the task; nothing; and one that is at best partly right."""
        try:
            answer = read_task(reference_answer).answer
        except ValueError:
            answer = None
        right = None if answer is None else written(answer, self.tag)
        return SelfCheck(right, ("",), (written(NO_ANSWER, self.tag),))

    def extras(self) -> frozenset[str]:
        """reasoning-gym comes with the real world."""
        return frozenset({"real"})


class ReasoningGymVerifier(Verifier):
    """The number that a family's own scoring function gives to the answer of a response.

    The reference answer of a prompt is what `reference_of` writes for the task. A response without
    an answer scores 0, as does one on which the scoring function fails or takes over 5 s.

    Raises ModelError where reasoning-gym is not installed.
    """

    def __init__(self, settings: ReasoningGymReward) -> None:
        if find_spec("reasoning_gym") is None:
            raise ModelError(
                "reward type reasoning_gym needs the package reasoning-gym; install it with "
                'pip install "wrpo[real]"'
            )
        self._tag = settings.tag

    def compare(self, response: str, reference_answer: str) -> float | Drop:
        """The family's score of the answer in the response."""
        try:
            task = read_task(reference_answer)
            return score(task, response, tag=self._tag)
        except ValueError as error:
            return Drop("bad_reference_answer", str(error))


def reference_of(entry: Mapping[str, Any]) -> str:
    """The reference answer of a task, as JSON, from an entry of a data set of reasoning-gym."""
    # Dates and the like are for reading only.
    return json.dumps({name: entry[name] for name in ("answer", "metadata")}, default=str)


def read_task(reference_answer: str) -> Task:
    """The task that `reference_of` has written.

    Raises:
        ValueError: it is none, or of a family that is not scored here; the message says why.
    """
    entry = _json(reference_answer)
    metadata = entry.get("metadata") if isinstance(entry, dict) else None
    if isinstance(metadata, str):  # a column of JSON, joined with others to one reference answer
        metadata = _json(metadata)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("source_dataset"), str):
        raise ValueError(
            'expected {"answer": ..., "metadata": {"source_dataset": ...}} of reasoning-gym, got '
            f"{reference_answer[:80]!r}"
        )
    family, answer = metadata["source_dataset"], entry.get("answer")
    if family in EXECUTED:
        raise ValueError(f"scoring {family} would execute text of the response")
    return Task(family, None if answer is None else str(answer), metadata)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def score(task: Task, response: str, *, tag: str | None) -> float:
    """The score of a response, 0 to 1.

    Raises:
        ValueError: the installed reasoning-gym has no such family.
    """
    function = _scorer(task.family)
    answer = find_answer(response, tag)
    if not answer:
        return 0.0
    try:
        with limited(_LIMIT_S):
            return float(function(answer, {"answer": task.answer, "metadata": task.metadata}))
    except TooMuch:
        logger.warning("%s: scoring takes over %g s; 0 for %r", task.family, _LIMIT_S, answer[:80])
    except Exception as error:  # a scoring function that is not made for such an answer
        logger.debug("%s: %r gives %s; 0", task.family, answer[:80], error)
    return 0.0


def find_answer(response: str, tag: str | None) -> str | None:
    """The answer in a response: the last one between tags, or all of it; None: there is none.

    >>> find_answer("I think <answer>12</answer>", "answer")
    '12'
    """
    if tag is None:
        return response.strip()
    _, opening, rest = response.rpartition(f"</{tag}>")[0].rpartition(f"<{tag}>")
    return rest.strip() if opening else None


def written(answer: str, tag: str | None) -> str:
    """A response that consists of an answer."""
    return answer if tag is None else f"<{tag}>{answer}</{tag}>"


@cache
def _scorer(family: str) -> Callable[[str, dict[str, Any]], float]:
    from reasoning_gym.factory import get_score_answer_fn

    return get_score_answer_fn(family)  # type: ignore[no-any-return, unused-ignore]

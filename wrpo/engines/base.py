"""What the sampler asks of an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from wrpo.pipeline.tables import Drop

if TYPE_CHECKING:
    from wrpo.chat.template import Messages

Place = tuple[int, int, int]
"""(part, position of the prompt in the part, index of the answer)."""


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to draw: a prompt, and the seed of this answer.

    `prompt_ids` are the rendered `messages`; empty where the engine sends messages itself.
    `sampling` are the resolved sampling fields of the prompt's domain, where they are not the
    engine's.
    """

    row: Place
    prompt_ids: list[int]
    messages: Messages
    seed: int
    sampling: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One drawn answer.

    `token_ids` end in the stop token, if one was drawn; None, as `token_count` may be, where a
    server does not tell. `logprob` is the sum over the tokens in nats, where it was asked for.
    """

    row: Place
    text: str
    token_ids: list[int] | None
    token_count: int | None
    finish_reason: str
    logprob: float | None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """An answer that the engine will not give, and why."""

    row: Place
    why: Drop


class GenerationEngine(Protocol):
    """Draws answers; they come in the order in which they finish."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion | Unanswered]: ...

    def close(self) -> None:
        """Ends processes of its own, if it has any."""

"""What the sampler asks of an engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One answer to draw: a prompt as token ids, and the seed of this answer."""

    row: tuple[int, int, int]
    """(part, position of the prompt in the part, index of the answer)."""
    prompt_ids: list[int]
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """One drawn answer; `logprob` is the sum over its tokens in nats, where it was asked for."""

    row: tuple[int, int, int]
    text: str
    token_ids: list[int]
    finish_reason: str
    logprob: float | None


class GenerationEngine(Protocol):
    """Draws answers; completions come in the order in which they finish."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]: ...

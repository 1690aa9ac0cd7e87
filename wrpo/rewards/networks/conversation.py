"""Scores of rendered conversations: rendering, refusals, equal conversations."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from wrpo.chat.render import render_responses
from wrpo.errors import TemplateError
from wrpo.pipeline.tables import Drop
from wrpo.rewards.base import Candidate, NetworkSettings
from wrpo.rewards.networks.batches import Conversation

_CHECKED = 16


class ConversationReward(ABC):
    """One number for the rendered conversation.

    Equal conversations are computed once, so that equal responses never differ by rounding.

    Args:
        check: raises an exception for what the network cannot read.

    Attributes:
        forwarded_tokens: of distinct conversations, each with its whole prompt, since it was made.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        tokenizer: Any,
        check: Callable[[Conversation], None] | None = None,
    ) -> None:
        self._settings, self.tokenizer, self._check = settings, tokenizer, check
        self.forwarded_tokens = 0

    def score(self, candidates: list[Candidate]) -> list[float | Drop]:
        """One number per candidate; over-long and unrenderable candidates are refused."""
        rendered = self._render(candidates)
        found = dict.fromkeys(item for item in rendered if isinstance(item, Conversation))
        self.forwarded_tokens += sum(len(one.prompt) + len(one.response) for one in found)
        values = self.values(list(found))
        return [item if isinstance(item, Drop) else values[item] for item in rendered]

    @abstractmethod
    def values(self, conversations: Sequence[Conversation]) -> dict[Conversation, float]:
        """The reward of each of some distinct conversations."""

    def _render(self, candidates: Sequence[Candidate]) -> list[Conversation | Drop]:
        """Token ids of each conversation; a prompt is rendered once for all its responses."""
        groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
        for place, candidate in enumerate(candidates):
            turns = tuple((turn["role"], turn["content"]) for turn in candidate.messages)
            groups.setdefault(turns, []).append(place)
        rendered: dict[int, Conversation | Drop] = {}
        for places in groups.values():
            group = [candidates[place] for place in places]
            rendered |= zip(places, self._render_group(group), strict=True)
        return [rendered[place] for place in range(len(candidates))]

    def _render_group(self, group: Sequence[Candidate]) -> list[Conversation | Drop]:
        """The same for candidates with equal messages; equal responses are rendered once."""
        distinct = list(dict.fromkeys(candidate.response for candidate in group))
        try:
            prompt, responses = render_responses(
                self.tokenizer,
                group[0].messages,
                distinct,
                fold_system=self._settings.fold_system,
            )
        except TemplateError as error:
            if len(group) == 1:
                return [Drop("template", str(error))]
            return [found for candidate in group for found in self._render_group([candidate])]
        shared = tuple(prompt)
        made = [self._conversation(shared, tuple(response)) for response in responses]
        found = dict(zip(distinct, made, strict=True))
        return [found[candidate.response] for candidate in group]

    def _conversation(
        self, prompt: tuple[int, ...], response: tuple[int, ...]
    ) -> Conversation | Drop:
        length = len(prompt) + len(response)
        if length > self._settings.max_tokens:
            return Drop("too_long", f"{length} tokens, the limit is {self._settings.max_tokens}")
        conversation = Conversation(prompt, response)
        if self._check is not None:
            self._check(conversation)
        return conversation


def spread(conversations: Sequence[Conversation]) -> list[Conversation]:
    """At most 16 of the conversations: pairs of neighbours, which often share a prompt, from all
    over the sequence."""
    pairs = min(_CHECKED // 2, max(1, len(conversations) // 2))
    starts = [len(conversations) * pair // pairs for pair in range(pairs)]
    places = dict.fromkeys(place for start in starts for place in (start, start + 1))
    return [conversations[place] for place in places if place < len(conversations)]


def excess(one: Sequence[float], other: Sequence[float], tolerance: float) -> float | None:
    """The largest difference between two ways to score, if it is more than rounding.

    Args:
        tolerance: of the largest absolute score, but at least absolute.
    """
    worst = max(map(_gap, one, other))
    scale = max([1.0, *(abs(value) for value in one if math.isfinite(value))])
    return None if worst <= tolerance * scale else worst


def _gap(one: float, other: float) -> float:
    if math.isfinite(one) and math.isfinite(other):
        return abs(one - other)
    return 0.0 if one == other or (math.isnan(one) and math.isnan(other)) else math.inf

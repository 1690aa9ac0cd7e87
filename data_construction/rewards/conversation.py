"""Scores of rendered conversations: refusals, batches, and a check of these batches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from data_construction.rewards.base import Candidate, Refusal
from data_construction.rewards.batches import (
    Batch,
    Conversation,
    packed_batch,
    packed_places,
    padded_batch,
    padded_places,
)
from data_construction.rewards.network import Network
from wrpo.chat import render_answers
from wrpo.errors import ModelError, TemplateError
from wrpo.recipe.reward_sections import ModelReward

logger = logging.getLogger(__name__)

_CHECKED_ROWS = 16


class Networks(NamedTuple):
    """A reward model in two forms.

    Attributes:
        plain: for padded batches.
        shared: for batches that share prompts, or why there is none.
        tolerance: largest difference between batch 1 and a larger batch, relative to the largest
            score but at least absolute.
    """

    plain: Network
    shared: Network | str
    tolerance: float


class ConversationReward:
    """One number for the rendered conversation, from a network that reads its hidden states.

    Equal conversations are computed once, so that equal answers never differ by rounding. The
    first call compares batches that share prompts with batch 1, and falls back to padded batches
    where they disagree; padded batches that disagree with batch 1 are an error, which is how a
    wrong pad token or padding side shows (allenai/reward-bench#137).

    Raises:
        ModelError: scores depend on the batch.
    """

    def __init__(self, settings: ModelReward, tokenizer: Any, networks: Networks) -> None:
        self._settings, self._tokenizer, self._networks = settings, tokenizer, networks
        self._shares: bool | None = None

    def score(self, candidates: list[Candidate]) -> list[float | Refusal]:
        """One number per candidate; over-long and unrenderable candidates are refused."""
        rendered = self._render(candidates)
        found = [item for item in rendered if isinstance(item, Conversation)]
        values = self._values(list(dict.fromkeys(found)))
        return [item if isinstance(item, Refusal) else values[item] for item in rendered]

    def check(self, conversation: Conversation) -> None:
        """Hook: refuses by an exception what the network cannot read."""

    def _render(self, candidates: Sequence[Candidate]) -> list[Conversation | Refusal]:
        """Token ids of each conversation; a prompt is rendered once for all its answers."""
        groups: dict[tuple[tuple[str, str], ...], list[int]] = {}
        for place, candidate in enumerate(candidates):
            turns = tuple((turn["role"], turn["content"]) for turn in candidate.messages)
            groups.setdefault(turns, []).append(place)
        rendered: dict[int, Conversation | Refusal] = {}
        for places in groups.values():
            group = [candidates[place] for place in places]
            rendered |= zip(places, self._render_group(group), strict=True)
        return [rendered[place] for place in range(len(candidates))]

    def _render_group(self, group: Sequence[Candidate]) -> list[Conversation | Refusal]:
        """The same for candidates with equal messages."""
        try:
            prompt, answers = render_answers(
                self._tokenizer,
                group[0].messages,
                [candidate.answer for candidate in group],
                fold_system=self._settings.fold_system,
            )
        except TemplateError as error:
            if len(group) == 1:
                return [Refusal("template", str(error))]
            return [found for candidate in group for found in self._render_group([candidate])]
        shared = tuple(prompt)
        return [self._conversation(shared, tuple(answer)) for answer in answers]

    def _conversation(
        self, prompt: tuple[int, ...], answer: tuple[int, ...]
    ) -> Conversation | Refusal:
        length = len(prompt) + len(answer)
        if length > self._settings.max_tokens:
            return Refusal("too_long", f"{length} tokens, the limit is {self._settings.max_tokens}")
        conversation = Conversation(prompt, answer)
        self.check(conversation)
        return conversation

    def _values(self, conversations: list[Conversation]) -> dict[Conversation, float]:
        if self._shares is None and conversations:
            self._shares = self._settle(conversations[:_CHECKED_ROWS])
        plan = packed_places if self._shares else padded_places
        values: dict[Conversation, float] = {}
        for places in plan(conversations, self._settings.engine.batch_tokens):
            batch = [conversations[place] for place in places]
            values |= zip(batch, self._forward(batch), strict=True)
        return values

    def _forward(self, conversations: Sequence[Conversation]) -> list[float]:
        if self._shares and not isinstance(self._networks.shared, str):
            return self._run(self._networks.shared, packed_batch(conversations))
        return self._run(self._networks.plain, self._padded(conversations))

    def _padded(self, conversations: Sequence[Conversation]) -> Batch:
        return padded_batch(conversations, self._tokenizer.pad_token_id)

    @staticmethod
    def _run(network: Network, batch: Batch) -> list[float]:
        values: list[float] = network(batch).cpu().tolist()
        return values

    def _settle(self, conversations: list[Conversation]) -> bool:
        """Whether prompts are shared, after comparing each conversation alone with all together."""
        model = self._settings.model
        plain, shared, _ = self._networks
        alone = [self._run(plain, self._padded([one]))[0] for one in conversations]
        reason = (
            shared if isinstance(shared, str) else self._objection(shared, conversations, alone)
        )
        if reason is None:
            return True
        logger.warning("reward %s: padded batches, because %s", model, reason)
        together = self._run(plain, self._padded(conversations))
        if (worst := self._excess(alone, together)) is not None:
            raise ModelError(
                f"reward model {model}: scores change by {worst:.4f} between batch "
                f"1 and batch {len(alone)}; its pad token ({self._tokenizer.pad_token!r}) or "
                "attention mask handling is broken. Set the pad token that it was trained with"
            )
        return False

    def _objection(
        self, shared: Network, conversations: list[Conversation], alone: list[float]
    ) -> str | None:
        """What speaks against shared prompts, or None."""
        try:
            together = self._run(shared, packed_batch(conversations))
        except Exception as error:  # whatever an unknown architecture makes of unknown arguments
            return f"it fails on shared prompts ({type(error).__name__}: {error})"
        worst = self._excess(alone, together)
        return None if worst is None else f"shared prompts change its scores by {worst:.4f}"

    def _excess(self, alone: list[float], together: list[float]) -> float | None:
        """The largest difference, if it is more than rounding."""
        worst = max(abs(a - b) for a, b in zip(alone, together, strict=True))
        scale = max(1.0, *(abs(value) for value in alone))
        if not worst <= self._networks.tolerance * scale:
            return worst
        logger.info("reward %s: batch 1 = batch B within %.1e", self._settings.model, worst)
        return None

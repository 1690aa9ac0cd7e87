"""Scores of conversations by a network in this process: batches, and a check of these batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from wrpo.errors import ModelError
from wrpo.rewards.base import NetworkSettings
from wrpo.rewards.networks.batches import (
    Batch,
    Conversation,
    packed_batch,
    packed_places,
    padded_batch,
    padded_places,
)
from wrpo.rewards.networks.conversation import ConversationReward, excess, spread
from wrpo.rewards.networks.network import Network
from wrpo.training.batches.token_budget import GPUMeter, TokenBudget, batches_that_fit
from wrpo.training.settings import AUTO

logger = logging.getLogger(__name__)


class Networks(NamedTuple):
    """A reward model in two forms.

    Attributes:
        plain: for padded batches.
        shared: for batches that share prompts, or why there is none.
        tolerance: largest difference between batch 1 and a larger batch, as in `excess`.
        dtype: precision of the backbone, e.g. "bfloat16".
    """

    plain: Network
    shared: Network | str
    tolerance: float
    dtype: str


class NetworkReward(ConversationReward):
    """One number for the rendered conversation, from a network that reads its hidden states.

    The first call compares batches that share prompts with batch 1, and falls back to padded
    batches where they disagree; padded batches that disagree with batch 1 are an error, which is
    how a wrong pad token or padding side shows (allenai/reward-bench#137).

    Raises:
        ModelError: scores depend on the batch.
    """

    def __init__(
        self,
        settings: NetworkSettings,
        tokenizer: Any,
        networks: Networks,
        check: Callable[[Conversation], None] | None = None,
    ) -> None:
        super().__init__(settings, tokenizer, check)
        self._networks = networks
        self.dtype = networks.dtype
        self._shares: bool | None = None
        self._budget = TokenBudget(
            settings.engine.batch_tokens or AUTO,
            longest=0,
            meter=GPUMeter() if torch.cuda.is_available() else None,
        )

    def values(self, conversations: Sequence[Conversation]) -> dict[Conversation, float]:
        """The reward of each of some distinct conversations."""
        if self._shares is None and conversations:
            self._shares = self._settle(spread(conversations))
        plan = packed_places if self._shares else padded_places
        values: dict[Conversation, float] = {}
        for places, scores in batches_that_fit(
            conversations, self._budget, plan=plan, compute=self._forward
        ):
            values |= zip((conversations[place] for place in places), scores, strict=True)
        return values

    def alone(self, conversations: Sequence[Conversation]) -> list[float]:
        """The reward of each conversation, computed without any other: the reference."""
        return [self._run(self._networks.plain, self._padded([one]))[0] for one in conversations]

    def _forward(self, conversations: Sequence[Conversation]) -> list[float]:
        if self._shares and not isinstance(self._networks.shared, str):
            return self._run(self._networks.shared, packed_batch(conversations))
        return self._run(self._networks.plain, self._padded(conversations))

    def _padded(self, conversations: Sequence[Conversation]) -> Batch:
        return padded_batch(conversations, self.tokenizer.pad_token_id)

    def _run(self, network: Network, batch: Batch) -> list[float]:
        with self._budget.micro_batch(batch.inputs["input_ids"].numel()):
            values: list[float] = network(batch).cpu().tolist()
        return values

    def _settle(self, conversations: list[Conversation]) -> bool:
        """Whether prompts are shared, after comparing each conversation alone with all together."""
        model = self._settings.model
        plain, shared, *_ = self._networks
        alone = self.alone(conversations)
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
                f"1 and batch {len(alone)}; its pad token ({self.tokenizer.pad_token!r}) or "
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
        worst = excess(alone, together, self._networks.tolerance)
        if worst is None:
            logger.info("reward %s: batch 1 equals batch B to rounding", self._settings.model)
        return worst

"""Reward networks: from a batch of conversations to one number for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear
from transformers.modeling_layers import GenericForSequenceClassification

from wrpo.prefix.choose import LayoutOptions, attention_that_packs, reason_not_supported
from wrpo.rewards.networks.batches import Batch

Head = Callable[[Tensor, Batch], Tensor]
"""From hidden states (tokens, hidden) and their batch to rewards (conversations,)."""


class Network(Protocol):
    """Rewards (conversations,) of a batch, in float32."""

    def __call__(self, batch: Batch) -> Tensor: ...


class Pooled:
    """A backbone, and a head that reads its last hidden states at chosen tokens."""

    def __init__(self, backbone: Any, head: Head) -> None:
        self._backbone, self._head = backbone, head

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        device = self._backbone.device
        inputs = {name: value.to(device) for name, value in batch.inputs.items()}
        hidden = self._backbone(**inputs, use_cache=False).last_hidden_state.flatten(0, 1)
        return self._head(hidden, batch)


class Whole:
    """A sequence classifier as it is, for padded batches."""

    def __init__(self, classifier: Any) -> None:
        self._classifier = classifier

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        device = self._classifier.device
        inputs = {name: value.to(device) for name, value in batch.inputs.items()}
        logits: Tensor = self._classifier(**inputs).logits
        return logits[:, 0].float()


def score_head(classifier: Any) -> Head:
    """The linear layer `score` on the last token.

    In float32: in bfloat16, logits near 20 are multiples of 0.125, and responses tie.
    """

    def head(hidden: Tensor, batch: Batch) -> Tensor:
        last = hidden[batch.last.to(hidden.device)].float()
        return linear(last, classifier.score.weight.float())[:, 0]

    return head


def has_score_head(classifier: Any) -> bool:
    """Whether this is transformers' generic classifier with one linear layer `score`."""
    return (
        isinstance(classifier, GenericForSequenceClassification)
        and type(classifier).forward is GenericForSequenceClassification.forward
        and isinstance(classifier.score, torch.nn.Linear)
        and classifier.score.bias is None
    )


def share_prompts(model: Any, max_tokens: int) -> str | None:
    """Gives the model the attention of packed batches; or says why it cannot have it."""
    reason = reason_not_supported(model, LayoutOptions(max_length=max_tokens))
    if reason is not None:
        return reason
    attention = attention_that_packs(model, device=model.device, dtype=model.dtype)
    if attention is None:
        return "attention segment by segment is slower than padding on a GPU"
    model.config._attn_implementation = attention
    return None

"""What an attention implementation leaves out of a model's function, by what its layers ask for.

transformers hands the terms of a model's attention to the implementation as keyword arguments, and
one that does not know a term ignores it without a word: `sdpa` the bound on Gemma-2's scores and
learned sinks, flash-attn learned biases between positions, and windows that a model states in its
mask alone. Only eager attention is the model's own.
"""

from __future__ import annotations

import inspect
import logging
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    flash_attention_mask,
    sdpa_mask,
)
from transformers.modeling_utils import (
    ALL_ATTENTION_FUNCTIONS,
    is_deepspeed_zero3_enabled,
    is_fsdp_enabled,
)

from wrpo.prefix.attention import SDPA
from wrpo.prefix.fused_head import causal_model

logger = logging.getLogger(__name__)

TERMS = {
    "softcap": "the bound on its scores (softcap)",
    "s_aux": "its learned sinks",
    "position_bias": "its learned biases between positions",
    "indices": "its choice of keys",
    "block_indices": "its choice of blocks of keys",
}
"""Arguments of attention that change what a model computes, in words."""
BETWEEN_POSITIONS = ("position_bias", "indices", "block_indices")
"""Those that count keys by their place in a row, and so know nothing of segments."""
_RECORDER = "wrpo_recorder"
_asked: set[str] = set()
_known: WeakKeyDictionary[nn.Module, frozenset[str]] = WeakKeyDictionary()


def asked_of_attention(model: Any) -> frozenset[str]:
    """Names of the arguments with a value that the layers of a model hand to their attention.

    By a forward pass over two tokens, once per model; of weights that are elsewhere (ZeRO-3, FSDP),
    and of models that take no such pass, only what the config and the names of the parameters show.
    """
    bare = causal_model(model)
    if bare not in _known:
        _known[bare] = _asked_of(bare)
    return _known[bare]


def _asked_of(model: Any) -> frozenset[str]:
    text = model.config.get_text_config()
    shown = {"softcap"} if getattr(text, "attn_logit_softcapping", None) is not None else set()
    if has_sinks(model):
        shown.add("s_aux")
    if is_deepspeed_zero3_enabled() or is_fsdp_enabled():
        return frozenset(shown)
    training, before = model.training, text._attn_implementation
    backbone = model.base_model
    _asked.clear()
    try:
        text._attn_implementation = _RECORDER
        model.eval()
        ids = torch.ones(1, 2, dtype=torch.long, device=next(model.parameters()).device)
        with torch.no_grad():
            backbone(input_ids=ids, use_cache=False)
    except Exception as error:  # an architecture that is no language model of rows of tokens
        logger.debug("%s does not show what it asks of its attention: %s", text.model_type, error)
    finally:
        text._attn_implementation = before
        model.train(training)
    return frozenset(shown | _asked)


def _record(
    _: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **terms: Any
) -> tuple[Tensor, None]:
    _asked.update(name for name, value in terms.items() if value is not None)
    rows, heads, tokens, _width = query.shape
    return value.new_zeros(rows, tokens, heads, value.shape[-1]), None


def has_sinks(model: Any) -> bool:
    """Whether each query also attends to a learned score without a value, as in gpt-oss."""
    return any(name.endswith("sinks") for name, _ in model.named_parameters())


def left_out(model: Any, attention: str) -> str | None:
    """What of the model's function `attention` leaves out on padded rows, in words; None: nothing.

    attention: a name of transformers' AttentionInterface, or "eager".
    """
    implementation = ALL_ATTENTION_FUNCTIONS.get(attention)
    if implementation is None:
        return None
    asked, taken = asked_of_attention(model), inspect.signature(implementation).parameters
    missing = [words for name, words in TERMS.items() if name in asked and name not in taken]
    if ALL_MASK_ATTENTION_FUNCTIONS.get(attention) is flash_attention_mask:
        missing += ["its sliding window"] * _only_in_mask(model, asked)
    return " and ".join(missing) or None


def between_positions(model: Any) -> str | None:
    """What of the model's attention cannot be had where responses share a prompt; None: nothing."""
    asked = asked_of_attention(model)
    found = [words for name, words in TERMS.items() if name in asked and name in BETWEEN_POSITIONS]
    return " and ".join(found) or None


def hides_window(model: Any) -> bool:
    """Whether layers have a sliding window that they tell only the mask, as those of Phi-MoE."""
    return _only_in_mask(model, asked_of_attention(model))


def _only_in_mask(model: Any, asked: frozenset[str]) -> bool:
    text = model.config.get_text_config()
    layers = getattr(text, "layer_types", None) or ["sliding_attention"]
    slides = getattr(text, "sliding_window", None) and "sliding_attention" in layers
    looked = bool(asked - TERMS.keys())
    return bool(slides and looked and "sliding_window" not in asked)


def complete_attention(model: Any) -> str:
    """Gives a model whose attention leaves something out one that does not; returns its name.

    Raises nothing: where none of ours takes all terms, the model keeps its own attention, with a
    warning that names what is left out.
    """
    text = model.config.get_text_config()
    before: str = text._attn_implementation
    missing = left_out(model, before)
    if missing is None:
        return before
    name = text.model_type
    if left_out(model, SDPA) is not None:
        logger.warning(
            "attention %s leaves %s of %s out; load it with attn_implementation eager",
            *(before, missing, name),
        )
        return before
    logger.warning("attention: %s, because %s leaves %s of %s out", SDPA, before, missing, name)
    text._attn_implementation = SDPA
    return SDPA


AttentionInterface.register(_RECORDER, _record)
AttentionMaskInterface.register(_RECORDER, sdpa_mask)

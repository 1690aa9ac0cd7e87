"""Attention over segments by torch's FlexAttention, for what variable-length kernels leave out.

wrpo_prefix_flex   one compiled kernel per layer, with a bound on the scores (Gemma-2), learned
                   sinks (gpt-oss) and windows; GPUs only, for torch compiles no backward for CPUs

It is registered with transformers on import. Without segments it is `prefix_sdpa`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from wrpo.prefix.attention import prefix_sdpa, refuse_bias
from wrpo.prefix.packing import are_segments, read_segments
from wrpo.prefix.varlen_attention import head_width

FLEX = "wrpo_prefix_flex"
Modifier = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@cache
def compiled() -> Callable[..., Any]:
    """FlexAttention, compiled once for batches of any length."""
    return torch.compile(flex_attention, dynamic=True)


def flex_refusal(model: Any, *, device: torch.device) -> str | None:
    """Why a model cannot use it; None if it can."""
    text = model.config.get_text_config()
    if device.type != "cuda":
        return f"FlexAttention has no backward pass on {device.type}"
    if getattr(text, "attention_dropout", 0):
        return "FlexAttention has no dropout"
    width = head_width(text)
    if width & (width - 1):
        return f"FlexAttention is not tried with heads of {width} dimensions"
    return None


def segment_mask(table: Tensor, window: int | None) -> Modifier:
    """What each token sees, as a mask_mod over the flat tokens of a packed batch.

    table: segments (1, 1, segments, 3), see `wrpo.prefix.packing`.
    window: positions that a query sees, its own included.
    """
    segments = read_segments(table)
    lengths = torch.tensor([segment.length for segment in segments])
    starts = lengths.cumsum(0) - lengths
    shared = torch.tensor([segment.shared for segment in segments])
    owners = starts[[segment.owner for segment in segments]]
    own = torch.arange(len(segments)).repeat_interleave(lengths)
    places = torch.arange(len(own))
    # Positions count on from the prompt that is shared.
    positions = places - starts[own] + shared[own]
    device = table.device
    own, begin, count, positions = (
        x.to(device) for x in (own, owners[own], shared[own], positions)
    )

    def seen(_: Tensor, __: Tensor, query: Tensor, key: Tensor) -> Tensor:
        causal = (own[query] == own[key]) & (query >= key)
        return causal | ((key >= begin[query]) & (key < begin[query] + count[query]))

    if window is None:
        return seen
    width: int = window

    def near(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return seen(row, head, query, key) & (positions[query] - positions[key] < width)

    return near


# Every layer of a kind reads the same table.
@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _block_mask(table: Tensor, window: int | None, tokens: int) -> BlockMask:
    mask = segment_mask(table, window)
    return create_block_mask(mask, None, None, tokens, tokens, device=table.device.type)


def prefix_flex(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As `wrpo.prefix.attention.prefix_sdpa`."""
    if not are_segments(attention_mask):
        options = (dropout, scaling, sliding_window, softcap, s_aux, position_bias)
        return prefix_sdpa(module, query, key, value, attention_mask, *options, **kwargs)
    refuse_bias(position_bias)
    rows, _, tokens, _ = query.shape
    flat = [x.transpose(0, 1).flatten(1, 2)[None] for x in (query, key, value)]

    limit = 1.0 if softcap is None else softcap

    def bounded(score: Tensor, *_: Tensor) -> Tensor:
        return limit * torch.tanh(score / limit)

    output, normaliser = compiled()(
        *flat,
        score_mod=None if softcap is None else bounded,
        block_mask=_block_mask(attention_mask, sliding_window, rows * tokens),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
        return_lse=True,
    )
    if s_aux is not None:  # one more key, whose value is nothing
        share = torch.sigmoid(normaliser - s_aux[None, :, None])
        output = output * share[..., None].to(output.dtype)
    return output[0].transpose(0, 1).unflatten(0, (rows, tokens)), None


AttentionInterface.register(FLEX, torch.compiler.disable(prefix_flex))
AttentionMaskInterface.register(FLEX, sdpa_mask)

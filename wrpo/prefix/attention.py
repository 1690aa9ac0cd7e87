"""Attention over segments that share a prompt, for the batches of `wrpo.prefix.packing`.

Two attention implementations for transformers' AttentionInterface, registered on import:

wrpo_prefix_sdpa    scaled_dot_product_attention per segment, on any device; on CPUs, where nothing
                    speaks against it, `wrpo.prefix.cpu_attention`
wrpo_prefix_flash   one call of flash-attn's variable-length kernel, keys and values gathered

Each reads the segments from the attention mask. Without segments (generation, padded batches) it
does what the implementation under it does. A segment's keys are contiguous in position, so that
causality and a sliding window by index inside the segment are those by position.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout as drop
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flash_attention import get_target_dtype
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import flash_attention_mask, sdpa_mask
from transformers.modeling_flash_attention_utils import _flash_attention_forward

from wrpo.prefix.cpu_attention import can_merge, merged_attention
from wrpo.prefix.fused_head import causal_model
from wrpo.prefix.packing import Segment, are_segments, read_segments

SDPA = "wrpo_prefix_sdpa"
FLASH = "wrpo_prefix_flash"


def prefix_sdpa(
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
    """Attention of a layer; query (rows, heads, tokens, dim), returns (rows, tokens, heads, dim).

    `softcap` bounds the scores as in Gemma-2, and `s_aux` (heads,) are learned sinks as in gpt-oss,
    scores of a key without a value; both also where there are no segments. `position_bias`
    (rows, heads, tokens, keys) is added to the scores.

    Raises:
        ValueError: there are segments and biases, which count positions over the whole row.
    """
    options: dict[str, Any] = {"dropout": dropout, "scaling": scaling}
    options |= {"softcap": softcap, "sinks": s_aux}
    if are_segments(attention_mask):
        refuse_bias(position_bias)
        segments = read_segments(attention_mask)
        return _by_segment(segments, query, key, value, window=sliding_window, **options), None
    if softcap is None and s_aux is None:
        return sdpa_attention_forward(
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            position_bias=position_bias,
            **kwargs,
        )
    mask = attention_mask
    if mask is None and query.shape[2] > 1:
        mask = visible_keys(query.shape[2], key.shape[2], None, query.device)
    options["bias"] = position_bias
    return _attend(query, key, value, mask, causal=False, **options).transpose(1, 2), None


def refuse_bias(bias: Tensor | None) -> None:
    """Raises ValueError where there are biases between the positions of a row."""
    if bias is not None:
        raise ValueError("learned biases between positions know nothing of shared prompts")


def _by_segment(
    segments: tuple[Segment, ...],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    window: int | None,
    **options: Any,
) -> Tensor:
    rows, heads, tokens, _ = query.shape
    query, key, value = (states.transpose(0, 1).flatten(1, 2) for states in (query, key, value))
    longest = max(segment.length + segment.shared for segment in segments)
    bare = options["softcap"] is None and options["sinks"] is None
    plain = bare and not options["dropout"]
    if plain and (window is None or window >= longest) and can_merge(query, key, value):
        joined = merged_attention(segments, query, key, value, options["scaling"])
        return joined.transpose(0, 1).unflatten(0, (rows, tokens))
    lengths = [segment.length for segment in segments]
    # Splitting instead of slicing: its gradient is one concatenation.
    queries, keys, values = (states.split(lengths, dim=1) for states in (query, key, value))
    outputs = []
    for i, (_, owner, shared) in enumerate(segments):
        k, v = keys[i], values[i]
        if shared:
            k = torch.cat([keys[owner][:, :shared], k], dim=1)
            v = torch.cat([values[owner][:, :shared], v], dim=1)
        length = k.shape[1]
        cut = window if window is not None and window < length else None
        mask = visible_keys(queries[i].shape[1], length, cut, k.device) if shared or cut else None
        states = (queries[i][None], k[None], v[None])
        outputs.append(_attend(*states, mask, causal=mask is None, **options)[0])
    joined = torch.cat(outputs, dim=1).view(heads, rows, tokens, -1)
    return joined.permute(1, 2, 0, 3).contiguous()


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    causal: bool,
    dropout: float,
    scaling: float | None,
    softcap: float | None,
    sinks: Tensor | None,
    bias: Tensor | None = None,
) -> Tensor:
    """Attention (batch, heads, tokens, dim) with fewer key than query heads allowed."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
    if softcap is None and sinks is None:
        return scaled_dot_product_attention(
            query, key, value, mask, dropout_p=dropout, scale=scaling, is_causal=causal
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = query @ key.transpose(2, 3) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    if causal:
        mask = visible_keys(query.shape[2], key.shape[2], None, query.device)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    if sinks is not None:
        sink = sinks.to(scores.dtype).view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
        scores = torch.cat([scores, sink], dim=-1)
    exact = torch.promote_types(scores.dtype, torch.float32)
    weights = torch.softmax(scores, dim=-1, dtype=exact).to(value.dtype)
    return drop(weights[..., : key.shape[2]], dropout) @ value


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # a mask made while generating may be met again in training
def visible_keys(
    queries: int, keys: int, window: int | None, device: torch.device, *, causal: bool = True
) -> Tensor:
    """Which keys (queries, keys) each of the last `queries` positions sees.

    window: positions that end at a query's own; later ones are the business of `causal`.
    """
    distance = torch.arange(keys - queries, keys, device=device)[:, None]
    distance = distance - torch.arange(keys, device=device)
    seen = (distance >= 0) if causal else torch.ones_like(distance, dtype=torch.bool)
    return seen if window is None else seen & (distance < window)


class _Gathered(NamedTuple):
    """Where the keys of all segments lie, and in the form that flash-attn takes."""

    key_index: Tensor
    cu_queries: Tensor
    cu_keys: Tensor
    longest_query: int
    longest_key: int


@lru_cache(maxsize=4)
def gather_plan(table: Tensor) -> _Gathered:
    """Flat index of every segment's keys [shared | own] and the boundaries of the segments."""
    segments = read_segments(table)
    starts, at = [], 0
    for segment in segments:
        starts.append(at)
        at += segment.length
    index, queries, keys = [], [0], [0]
    for start, (length, owner, shared) in zip(starts, segments, strict=True):
        index.append(torch.arange(starts[owner], starts[owner] + shared))
        index.append(torch.arange(start, start + length))
        queries.append(queries[-1] + length)
        keys.append(keys[-1] + shared + length)
    return _Gathered(
        key_index=torch.cat(index).to(table.device),
        cu_queries=torch.tensor(queries, dtype=torch.int32, device=table.device),
        cu_keys=torch.tensor(keys, dtype=torch.int32, device=table.device),
        longest_query=max(segment.length for segment in segments),
        longest_key=max(segment.length + segment.shared for segment in segments),
    )


def prefix_flash(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As `prefix_sdpa`, with the flash-attn version that the model was loaded with.

    Segments have more keys than queries; the kernel aligns causality to the last key.
    """
    tokens = query.shape[2]
    target_dtype = get_target_dtype(query, module)
    query, key, value = (states.transpose(1, 2) for states in (query, key, value))
    width = value.shape[-1]
    value = pad(value, [0, query.shape[-1] - width])
    if are_segments(attention_mask):
        refuse_bias(kwargs.get("position_bias"))
        plan = gather_plan(attention_mask)
        key, value = (states.flatten(0, 1)[plan.key_index][None] for states in (key, value))
        kwargs |= {
            "cu_seq_lens_q": plan.cu_queries,
            "cu_seq_lens_k": plan.cu_keys,
            "max_length_q": plan.longest_query,
            "max_length_k": plan.longest_key,
        }
        attention_mask = None
    output = _flash_attention_forward(
        query,
        key,
        value,
        attention_mask,
        query_length=tokens,
        is_causal=is_causal if is_causal is not None else module.is_causal,
        dropout=dropout,
        softmax_scale=scaling,
        sliding_window=sliding_window,
        softcap=softcap,
        target_dtype=target_dtype,
        s_aux=s_aux.to(query.dtype) if s_aux is not None else None,
        attn_implementation=None,  # the one that is loaded; it does not know our name
        **kwargs,
    )
    return output[..., :width], None


def attach_scored_only(model: Any) -> None:
    """Let the model's backbone return only the hidden states that `scored_index` names, if given.

    Away from GPUs, TRL's fused LM head projects every position it is given.
    """
    causal = causal_model(model)
    if _scored_only not in causal.base_model._forward_hooks.values():
        causal.base_model.register_forward_hook(_scored_only, with_kwargs=True)


def _scored_only(_: nn.Module, __: Any, arguments: dict[str, Any], output: Any) -> None:
    index = arguments.get("scored_index")
    if index is not None:
        hidden = output.last_hidden_state.flatten(0, 1)
        output.last_hidden_state = hidden.index_select(0, index)[None]


# Compiled layers call them as they are: they read the segments of a batch as numbers, with which
# every batch would be compiled anew.
AttentionInterface.register(SDPA, torch.compiler.disable(prefix_sdpa))
AttentionMaskInterface.register(SDPA, sdpa_mask)
AttentionInterface.register(FLASH, torch.compiler.disable(prefix_flash))
AttentionMaskInterface.register(FLASH, flash_attention_mask)

"""Attention over sequences of any lengths by torch's own flash kernel; no package to build.

wrpo_varlen   one call of `torch.nn.attention.varlen` per layer, for segments that share a prompt,
              packed rows (positions that restart), padded rows and rows without padding

It is registered with transformers on import. What the kernel does not take (float32, dropout, a
bound on the scores, a query that continues a cache) goes to scaled_dot_product_attention.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flash_attention import get_target_dtype
from transformers.masking_utils import flash_attention_mask

from wrpo.prefix.attention import gather_plan, prefix_sdpa, visible_keys
from wrpo.prefix.left_out import has_sinks, hides_window
from wrpo.prefix.packing import are_segments

VARLEN = "wrpo_varlen"
HALF = (torch.float16, torch.bfloat16)
_WIDEST_HEAD = 256


class Kernel(NamedTuple):
    """The kernel behind the same signature for every release of torch.

    Attributes:
        attend: (query, key, value, cu_queries, cu_keys, longest_query, longest_key, scale, window)
            to (queries, heads, dim). States are (tokens, heads, dim), keys and values may have
            fewer heads; `cu_queries` and `cu_keys` (sequences + 1,) bound the sequences; causality
            and the window of that many positions end at the last key.
        windows: whether it has sliding windows.
        dtypes: of the states.
        device: on which it runs.
    """

    attend: Callable[..., Tensor]
    windows: bool = True
    dtypes: tuple[torch.dtype, ...] = HALF
    device: str = "cuda"


@cache
def torch_kernel() -> Kernel | None:
    """The kernel of the installed torch; None before 2.10."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return adapted(varlen_attn)


def adapted(varlen_attn: Callable[..., Any]) -> Kernel:
    """torch's function, whose options differ between releases, as a `Kernel`.

    2.10 has `is_causal` and no window; 2.11 replaced it by `window_size` and takes grouped heads
    without being told; from 2.13 on it wants `enable_gqa` for them.
    """
    options = inspect.signature(varlen_attn).parameters
    windows = "window_size" in options

    def attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_queries: Tensor,
        cu_keys: Tensor,
        longest_query: int,
        longest_key: int,
        scale: float | None,
        window: int | None,
    ) -> Tensor:
        chosen: dict[str, Any] = {}
        if windows:
            chosen["window_size"] = (-1 if window is None else window - 1, 0)
        else:
            chosen["is_causal"] = True
        if "scale" in options:
            chosen["scale"] = scale
        elif scale is not None:  # what the kernel multiplies by is fixed
            query = query * (scale * query.shape[-1] ** 0.5)
        if "enable_gqa" in options:
            chosen["enable_gqa"] = query.shape[1] != key.shape[1]
        bounds = (cu_queries, cu_keys, longest_query, longest_key)
        output: Tensor = varlen_attn(query, key, value, *bounds, **chosen)
        return output

    return Kernel(attend, windows)


def kernel_refusal(model: Any, *, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why a model cannot use the kernel in this precision; None if it can."""
    kernel, text = torch_kernel(), model.config.get_text_config()
    if kernel is None:
        return "this torch has no variable-length attention; 2.10 and later have"
    if device.type != kernel.device:
        return f"variable-length attention does not run on {device.type}"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "variable-length attention needs an Ampere GPU or later"
    if dtype not in kernel.dtypes:
        return f"variable-length attention does not take {dtype}".replace("torch.", "")
    width = head_width(text)
    if width > _WIDEST_HEAD or width % 8:
        return f"variable-length attention takes no heads of {width} dimensions"
    if getattr(text, "attn_logit_softcapping", None) is not None:
        return "variable-length attention has no bound on the scores (softcap)"
    if has_sinks(model):
        return "variable-length attention has no learned sinks"
    if not model._supports_flash_attn:
        return f"{text.model_type} has an attention of its own"
    if getattr(text, "attention_dropout", 0):
        return "variable-length attention has no dropout"
    if getattr(text, "sliding_window", None) and not kernel.windows:
        return "variable-length attention of this torch has no sliding window"
    if hides_window(model):
        return f"{text.model_type} tells its sliding window only to its mask"
    return None


def head_width(text: Any) -> int:
    """Dimensions of a query, by the text part of a model's config."""
    rope = getattr(text, "qk_rope_head_dim", None)
    if rope is not None:  # latent attention: keys have a part with positions and one without
        return int(rope + text.qk_nope_head_dim)
    own = getattr(text, "head_dim", None)
    return int(own or text.hidden_size // text.num_attention_heads)


class _Sequences(NamedTuple):
    """What attends together, as the kernel takes it.

    Attributes:
        queries: flat places of the tokens that are computed; None: all, as they lie.
        keys: flat places of the keys, sequence by sequence; None: those of the queries.
    """

    queries: Tensor | None
    keys: Tensor | None
    cu_queries: Tensor
    cu_keys: Tensor
    longest_query: int
    longest_key: int


def varlen_attention(
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
    position_ids: Tensor | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of a layer; query (rows, heads, tokens, dim), returns (rows, tokens, heads, dim).

    attention_mask: a table of segments, (rows, tokens) with 0 for padding, or None.
    """
    kernel = torch_kernel()
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    dtype = get_target_dtype(query, module) or query.dtype
    able = kernel is not None and dtype in kernel.dtypes and query.device.type == kernel.device
    plain = causal and not dropout and all(x is None for x in (s_aux, position_bias, softcap))
    sequences = None
    if able and plain:
        sequences = _stated(kwargs) or _sequences(attention_mask, query, key, position_ids)
    if kernel is None or sequences is None:
        mask = attention_mask
        if not are_segments(mask):
            mask = _dense(mask, _packed(position_ids), query, key, sliding_window, causal=causal)
        states = (query, key, value)
        return prefix_sdpa(
            module,
            *states,
            mask,
            dropout,
            scaling,
            sliding_window,
            softcap,
            s_aux,
            position_bias,
            is_causal=is_causal,
            **kwargs,
        )
    rows, _, tokens, width = query.shape
    own = value.shape[-1]
    value = pad(value, [0, width - own]) if own != width else value
    flat = [x.to(dtype).transpose(1, 2).flatten(0, 1) for x in (query, key, value)]
    places = (sequences.queries, sequences.keys, sequences.keys)
    flat = [x if at is None else x[at] for x, at in zip(flat, places, strict=True)]
    window = sliding_window
    if window is not None and window >= sequences.longest_key:
        window = None
    output = kernel.attend(*flat, *sequences[2:], scaling, window)[..., :own]
    if sequences.queries is not None:
        empty = output.new_zeros(rows * tokens, *output.shape[1:])
        output = empty.index_copy(0, sequences.queries, output)
    return output.unflatten(0, (rows, tokens)), None


def _stated(kwargs: dict[str, Any]) -> _Sequences | None:
    """Sequences that a collator has bounded, as TRL's does for rows without padding."""
    names = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
    values = [kwargs.get(name) for name in names]
    if any(value is None for value in values):
        return None
    return _Sequences(None, None, *values)  # type: ignore[arg-type]


def _sequences(
    mask: Tensor | None, query: Tensor, key: Tensor, positions: Tensor | None
) -> _Sequences | None:
    """The sequences of a batch; None if its queries continue a cache."""
    if are_segments(mask):
        plan = gather_plan(mask)
        return _Sequences(None, plan.key_index, *plan[1:])
    rows, tokens = query.shape[0], query.shape[2]
    if key.shape[2] != tokens or (mask is not None and mask.shape[1] != tokens):
        return None
    if mask is not None:
        return _unpadded(mask)
    packed = _packed(positions) if rows == 1 else None
    return packed or _whole(rows, tokens, query.device)


# Every layer of a forward pass reads the same tensors, so that the plan is made once.
@lru_cache(maxsize=4)
def _unpadded(mask: Tensor) -> _Sequences:
    """One sequence per row (rows, tokens), without what the mask hides."""
    seen = mask.bool()
    places = seen.flatten().nonzero().flatten()
    return _consecutive(places, seen.sum(dim=1).tolist(), mask.device)


@lru_cache(maxsize=4)
def _packed(positions: Tensor | None) -> _Sequences | None:
    """The sequences of one row (1, tokens) whose positions restart; None if they do not."""
    if positions is None or positions.ndim != 2 or len(positions) != 1:
        return None
    starts = (positions[0].diff() != 1).nonzero().flatten().tolist()
    if not starts:
        return None
    bounds = [0, *(start + 1 for start in starts), positions.shape[1]]
    lengths = [end - start for start, end in pairwise(bounds)]
    return _consecutive(None, lengths, positions.device)


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # bounds made while generating may be met again in training
def _whole(rows: int, tokens: int, device: torch.device) -> _Sequences:
    """One sequence per row, which fills it."""
    return _consecutive(None, [tokens] * rows, device)


def _consecutive(places: Tensor | None, lengths: list[int], device: torch.device) -> _Sequences:
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
    return _Sequences(places, places, bounds, bounds, max(lengths), max(lengths))


def _dense(
    mask: Tensor | None,
    packed: _Sequences | None,
    query: Tensor,
    key: Tensor,
    window: int | None,
    *,
    causal: bool,
) -> Tensor | None:
    """What scaled_dot_product_attention needs: which key each query sees, or None for all before.

    A query that sees nothing, padding on the left, sees itself: its output is not used, but would
    not be a number.
    """
    queries, keys = query.shape[2], key.shape[2]
    if window is not None and window >= keys:
        window = None
    decodes = queries == 1 or queries == keys
    if mask is None and packed is None and window is None and (decodes or not causal):
        return None
    seen = visible_keys(queries, keys, window, query.device, causal=causal)
    if packed is not None and queries == keys:
        places = torch.arange(keys, device=query.device)
        sequence = torch.bucketize(places, packed.cu_keys[1:], right=True)
        seen = seen & (sequence[:, None] == sequence)
    seen = seen[None, None]
    if mask is not None:
        own = torch.eye(queries, keys, dtype=torch.bool, device=query.device).roll(
            keys - queries, 1
        )
        seen = (seen & mask[:, None, None, :keys].bool()) | own
    return seen


AttentionInterface.register(VARLEN, torch.compiler.disable(varlen_attention))
AttentionMaskInterface.register(VARLEN, flash_attention_mask)

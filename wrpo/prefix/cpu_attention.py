"""Attention over segments that share a prompt, for CPUs.

Later responses attend to the prompt without a mask and to themselves causally; both results are
merged by their normalisers, so that nothing masked is computed and no key is copied. With the
merged output and normaliser, the kernel's backward pass gives each part's share of the gradients.
The same decomposition as in ring attention (arXiv 2310.01889).
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wrpo.prefix.packing import Segment

# The kernels under scaled_dot_product_attention, which does not return the normaliser.
_attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_attend_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class _Part(NamedTuple):
    """Queries and the keys that they attend to, as ranges of the packed tokens."""

    queries: slice
    keys: slice
    causal: bool


# Every layer asks for those of the same segments, forward and backward.
@lru_cache(maxsize=4)
def _parts(segments: tuple[Segment, ...]) -> list[_Part]:
    """First every segment with itself, then neighbours together with the prompt they share."""
    starts = list(accumulate((segment.length for segment in segments), initial=0))
    runs = [slice(*ends) for ends in pairwise(starts)]
    prompts: list[_Part] = []
    for own, (_, owner, shared) in zip(runs, segments, strict=True):
        keys = slice(starts[owner], starts[owner] + shared)
        if prompts and prompts[-1].keys == keys and prompts[-1].queries.stop == own.start:
            own = slice(prompts.pop().queries.start, own.stop)
        if shared:
            prompts.append(_Part(own, keys, causal=False))
    return [_Part(own, own, causal=True) for own in runs] + prompts


class _MergedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        segments: tuple[Segment, ...],
        scaling: float | None,
    ) -> Tensor:
        heads, tokens, width = query.shape
        output = query.new_empty(tokens, heads, width).transpose(0, 1)
        exact = torch.promote_types(query.dtype, torch.float32)
        normaliser = query.new_empty(tokens, heads, dtype=exact).transpose(0, 1)
        keys, values = _for_heads(key, heads), _for_heads(value, heads)
        for at, to, causal in _parts(segments):
            states = (query[None, :, at], keys[None, :, to], values[None, :, to])
            part, norm = (x[0] for x in _attend(*states, 0.0, causal, scale=scaling))
            if causal:
                output[:, at], normaliser[:, at] = part, norm
            else:
                merged = torch.logaddexp(normaliser[:, at], norm)
                share = (norm - merged).exp().to(output.dtype)
                output[:, at].lerp_(part, share[..., None])
                normaliser[:, at] = merged
        ctx.save_for_backward(query, key, value, output, normaliser)
        ctx.segments, ctx.scaling = segments, scaling
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, normaliser = ctx.saved_tensors
        heads = query.shape[0]
        states = (query, _for_heads(key, heads), _for_heads(value, heads))
        of_query, of_key, of_value = (torch.empty_like(x) for x in states)
        for at, to, causal in _parts(ctx.segments):
            parts = _attend_backward(
                gradient[None, :, at],
                *(x[None, :, part] for x, part in zip(states, (at, to, to), strict=True)),
                output[None, :, at],
                normaliser[None, :, at],
                0.0,
                causal,
                scale=ctx.scaling,
            )
            totals = (of_query[:, at], of_key[:, to], of_value[:, to])
            for total, part in zip(totals, parts, strict=True):
                if causal:
                    total.copy_(part[0])
                else:
                    total.add_(part[0])
        of_key, of_value = (_of_groups(x, key.shape[0]) for x in (of_key, of_value))
        return of_query, of_key, of_value, None, None


def _for_heads(states: Tensor, heads: int) -> Tensor:
    groups = heads // states.shape[0]
    return states if groups == 1 else states.repeat_interleave(groups, dim=0)


def _of_groups(gradient: Tensor, heads: int) -> Tensor:
    return gradient if len(gradient) == heads else gradient.unflatten(0, (heads, -1)).sum(dim=1)


def can_merge(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether the CPU's kernel takes these states."""
    same_type = query.dtype == key.dtype == value.dtype
    same_width = query.shape[-1] == key.shape[-1] == value.shape[-1]
    return query.device.type == "cpu" and query.is_floating_point() and same_type and same_width


def merged_attention(
    segments: Sequence[Segment],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None = None,
) -> Tensor:
    """Attention of packed tokens; query (heads, tokens, dim), returns (heads, tokens, dim).

    Key and value may have fewer heads. The lengths of the segments add up to the tokens.
    """
    return _MergedAttention.apply(query, key, value, tuple(segments), scaling)

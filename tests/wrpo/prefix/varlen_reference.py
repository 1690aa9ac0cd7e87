"""The contract of torch's variable-length attention in plain torch, for machines without a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from wrpo.prefix.varlen_attention import Kernel


def varlen_attn(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> Tensor:
    """As `torch.nn.attention.varlen.varlen_attn` of torch 2.13, in any precision."""
    assert query.ndim == key.ndim == value.ndim == 3
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert (query.shape[0], key.shape[0]) == (int(cu_seq_q[-1]), int(cu_seq_k[-1]))
    assert key.shape == value.shape
    assert enable_gqa == (query.shape[1] != key.shape[1])
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    left, right = window_size
    outputs = []
    for i in range(len(cu_seq_q) - 1):
        q = query[cu_seq_q[i] : cu_seq_q[i + 1]]
        k, v = (
            x[cu_seq_k[i] : cu_seq_k[i + 1]].repeat_interleave(groups, dim=1) for x in (key, value)
        )
        assert len(q) <= max_q
        assert len(k) <= max_k
        # Positions count from the last key, as in flash-attn 2.1 and later.
        distance = torch.arange(len(k) - len(q), len(k))[:, None] - torch.arange(len(k))
        seen = torch.ones_like(distance, dtype=torch.bool)
        if left >= 0:
            seen &= distance <= left
        if right >= 0:
            seen &= distance >= -right
        scores = torch.einsum("qhd,khd->hqk", q, k) * scale
        weights = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1)
        outputs.append(torch.einsum("hqk,khd->qhd", weights, v))
    return torch.cat(outputs)


def reference_kernel() -> Kernel:
    """The reference in the place of torch's kernel, on CPUs and in full precision."""
    from wrpo.prefix.varlen_attention import adapted

    exact = (torch.float32, torch.float64)
    return adapted(varlen_attn)._replace(dtypes=exact, device="cpu")

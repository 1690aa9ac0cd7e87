"""Losses over stored distributions, as pure functions of logits.

A stored distribution of a position is k ids with their log-probs and a remainder: the mass of all
other tokens, one outcome more. So teacher and student are compared over k + 1 outcomes, and the
gradient is zero where they are equal; over k renormalised ones it is not.

Shapes: logits (..., V); ids, logps (..., k), where a log-prob of -inf is no entry; rest (...) is
the log of the remainder. All results are (...), in nats.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-7
"""Least probability of the student's remainder, which a logarithm is taken of."""


def student_outcomes(logits: Tensor, ids: Tensor, logps: Tensor) -> tuple[Tensor, Tensor]:
    """The student's log-probs at the stored ids (..., k), and the log of its remainder (...)."""
    logits = logits.float()
    found = logits.gather(-1, ids) - logits.logsumexp(-1, keepdim=True)
    held = found.exp().masked_fill(logps == -torch.inf, 0.0)
    rest = (1.0 - held.sum(-1)).clamp(min=SMALLEST).log()
    return found, rest


def cross_entropy(
    logits: Tensor, ids: Tensor, logps: Tensor, rest: Tensor, *, renormalize: bool = False
) -> Tensor:
    """-sum_b p_b log q_b over the k + 1 outcomes.

    Args:
        renormalize: over the k stored ids instead, their log-probs normalised: FuseLLM's released
            code, where a student that equals its teacher still has a gradient.
    """
    found, own_rest = student_outcomes(logits, ids, logps)
    if renormalize:
        logps = _normalised(logps)
    none = logps == -torch.inf
    held = -(logps.exp() * found.masked_fill(none, 0.0)).sum(-1)
    return held if renormalize else held - rest.exp() * own_rest


def entropy(logps: Tensor, rest: Tensor, *, renormalize: bool = False) -> Tensor:
    """-sum_b p_b log p_b of a stored distribution."""
    if renormalize:
        logps = _normalised(logps)
    held = _plogp(logps).sum(-1)
    return -held if renormalize else -(held + _plogp(rest))


def kl(logits: Tensor, ids: Tensor, logps: Tensor, rest: Tensor) -> Tensor:
    """KL(teacher || student) over the k + 1 outcomes: at most that over the vocabulary."""
    return cross_entropy(logits, ids, logps, rest) - entropy(logps, rest)


def expected_advantage(
    logits: Tensor, ids: Tensor, advantage: Tensor, *, clip: bool = False
) -> Tensor:
    """E_{a ~ student}[A(a)], A being 0 for tokens that are not stored (ADPA, arXiv 2502.17927).

    Args:
        clip: clamps A to (0, 1), as the released code does, which forgets all negative advantages.
    """
    if clip:
        advantage = advantage.clamp(1e-8, 1 - 1e-8)
    found = logits.float().gather(-1, ids) - logits.float().logsumexp(-1, keepdim=True)
    return (found.exp() * advantage).sum(-1)


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens of each response, (n,) from (n, L); 0 where it has none."""
    kept = mask.to(values.dtype)
    return (values * kept).sum(-1) / kept.sum(-1).clamp(min=1)


def _normalised(logps: Tensor) -> Tensor:
    """Log-probs that add up to 1, and none where a position, of padding, has none."""
    return logps.log_softmax(-1).nan_to_num(nan=-torch.inf, neginf=-torch.inf)


def _plogp(logp: Tensor) -> Tensor:
    return logp.exp() * logp.masked_fill(logp == -torch.inf, 0.0)

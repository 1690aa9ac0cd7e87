"""What selectors of records learn from a generator, as pure functions.

Distillation is MAKER's (arXiv 2305.10149), the margin MK-TOD's (arXiv 2310.08877). MK-TOD's
marginal likelihood is `wrpo.routing.objective.marginal_nll`, with records in place of sources.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

MARGIN = 0.01


def distillation(scores: Tensor, targets: Tensor) -> Tensor:
    """KL(targets || softmax of scores) of each exchange, (n,), in nats.

    A mean over all elements, which a loss of libraries takes unless told otherwise, would divide by
    the number of records too.

    Args:
        scores: of the retriever, (n, k).
        targets: how much the generator uses each record, (n, k); rows add up to 1.
    """
    logs = targets.clamp(min=1e-30).log()
    return (targets * (logs - scores.log_softmax(-1))).sum(-1)


def margin_loss(alone: Tensor, given: Tensor, *, margin: float = MARGIN) -> Tensor:
    """By how much records fail to help, (n,): sum_i max(0, d_alone - d_i + margin).

    Args:
        alone: mean log-prob per token of the response without any record, (n,).
        given: the same given each record, (n, k).
    """
    return (alone[:, None] - given + margin).clamp(min=0).sum(-1)


def attribute_loss(logits: Tensor, scores: Tensor, wanted: Tensor) -> Tensor:
    """Binary cross-entropy of each exchange, (n,), a mean over attributes.

    Args:
        logits: of each record and attribute, (n, k, a); averaged by the softmax of scores.
        scores: of the retriever, (n, k); nothing of this loss reaches them.
        wanted: 1 for attributes of which a retrieved record has a value that was said, (n, a).
    """
    loss = binary_cross_entropy_with_logits(over_records(logits, scores), wanted, reduction="none")
    return loss.mean(-1)


def over_records(logits: Tensor, scores: Tensor) -> Tensor:
    """Logits of attributes over all records of an exchange, (n, a)."""
    return (scores.detach().softmax(-1)[..., None] * logits).sum(1)

"""The marginal likelihood of a response over latent choices (MK-TOD, arXiv 2310.08877).

    MML = -log sum_i q(e_i | c) p(r | c, e_i),   q = softmax of the router's scores s

There e_i are retrieved records; here they are sources. Its gradient is q_i - post_i with post_i
proportional to q_i p(r | c, e_i), so that q moves to what explains the response, and stays where
all explain it alike.
"""

from __future__ import annotations

from torch import Tensor


def marginal_nll(scores: Tensor, likelihoods: Tensor) -> Tensor:
    """MML of each prompt, (n,), in nats.

    Args:
        scores: s of each prompt and source, (n, k).
        likelihoods: log p(r | c, e_i), (n, k).
    """
    return -(scores.log_softmax(-1) + likelihoods).logsumexp(-1)


def posterior(scores: Tensor, likelihoods: Tensor) -> Tensor:
    """How much of a response each source explains, (n, k); rows add up to 1."""
    return (scores.log_softmax(-1) + likelihoods).softmax(-1)

"""Objectives as pure functions of log-probabilities in nats.

Symbols: y_ws = source_chosen, y_wt = chosen, y_l = rejected. A log-ratio is
h = log pi_theta(y|x) - log pi_ref(y|x), summed over the tokens of the response.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from wrpo.errors import RecipeError


def wrpo_loss(
    source_logratio: Tensor,
    target_logratio: Tensor,
    rejected_logratio: Tensor,
    *,
    alpha: float,
    beta: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Weighted-reward preference loss of each triple, shape (batch,).

        delta = beta * (alpha * h_ws + (1 - alpha) * h_wt - h_l)
        loss  = -(1 - eps) * log sigmoid(delta) - eps * log sigmoid(-delta)

    with eps = `label_smoothing`. alpha = 0 is DPO on (y_wt, y_l), alpha = 1 is DPO on (y_ws, y_l).
    The three log-ratios have shape (batch,).

    Source: WRPO (arXiv 2412.03187); smoothing as in conservative DPO.

    Raises:
        RecipeError: `alpha` is outside [0, 1] or `label_smoothing` outside [0, 0.5).
    """
    check_unit_interval("alpha", alpha)
    check_label_smoothing(label_smoothing)
    preferred = alpha * source_logratio + (1.0 - alpha) * target_logratio
    delta = beta * (preferred - rejected_logratio)
    if label_smoothing == 0.0:
        return -logsigmoid(delta)
    return -(1.0 - label_smoothing) * logsigmoid(delta) - label_smoothing * logsigmoid(-delta)


def dpo_loss(
    chosen_logratio: Tensor,
    rejected_logratio: Tensor,
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Direct preference loss of each pair, shape (batch,): `wrpo_loss` at alpha = 0.

    Source: DPO (arXiv 2305.18290).
    """
    return wrpo_loss(
        chosen_logratio,
        chosen_logratio,
        rejected_logratio,
        alpha=0.0,
        beta=beta,
        label_smoothing=label_smoothing,
    )


def likelihood_loss(logp_sum: Tensor, length: Tensor) -> Tensor:
    """Mean negative log-likelihood per token of each response, shape (batch,), in nats.

    `logp_sum` holds the summed log-probabilities and `length` the token counts, both (batch,).
    """
    return -logp_sum / length


def likelihood_term(
    logps: Tensor, lengths: Tensor, *, on: str, source_is_better: Tensor | None = None
) -> Tensor:
    """`likelihood_loss` of the response that `on` names, shape (batch,).

    `logps` and `lengths` have shape (batch, 3), in the order source_chosen, chosen, rejected. `on`
    is "source_chosen", "chosen", "both" (the mean of the two) or "better" (source_chosen where
    `source_is_better` (batch,) is true, else chosen).

    Raises:
        RecipeError: `on` is another word.
    """
    source = likelihood_loss(logps[:, 0], lengths[:, 0])
    target = likelihood_loss(logps[:, 1], lengths[:, 1])
    if on == "source_chosen":
        return source
    if on == "chosen":
        return target
    if on == "both":
        return (source + target) / 2
    if on == "better" and source_is_better is not None:
        return torch.where(source_is_better, source, target)
    raise RecipeError(f"likelihood_on is {on!r}; choose source_chosen, chosen, better or both")


def sum_by_response(values: Tensor, response_index: Tensor, *, prompts: int) -> Tensor:
    """Add per-token values up to one number per response, shape (prompts, 3).

    `response_index` names the slot of each token: 3 * prompt + response, with the responses in the
    order source_chosen, chosen, rejected, and 3 * prompts for tokens of no response. `values` may
    hold more leading columns than `response_index` (virtual tokens of a soft prompt): they are left
    out. Sums are taken in float32 at least.
    """
    values = values[:, -response_index.shape[1] :]
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    slots = values.new_zeros(3 * prompts + 1)
    return slots.index_add(0, response_index.flatten(), values.flatten())[:-1].view(prompts, 3)


def check_unit_interval(name: str, value: float) -> None:
    """Raise RecipeError unless 0 <= value <= 1."""
    if not 0.0 <= value <= 1.0:
        raise RecipeError(f"{name} is {value}; it is a weight and must lie in [0, 1]")


def check_label_smoothing(value: float) -> None:
    """Raise RecipeError unless 0 <= value < 0.5."""
    if not 0.0 <= value < 0.5:
        raise RecipeError(
            f"label_smoothing is {value}; it is the share of flipped preferences and must lie in "
            "[0, 0.5)"
        )

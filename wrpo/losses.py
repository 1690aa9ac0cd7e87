"""Objectives as pure functions of log-probabilities in nats.

Symbols: y_ws = source_chosen, y_wt = chosen, y_l = rejected. u(y) is the implicit reward of a
response before the factor beta: log pi_theta(y|x) - log pi_ref(y|x), summed over the tokens of the
response; divided by their number in the length-normalised losses; without the second term where
there is no reference.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def implicit_rewards(
    logps: Tensor, reference: Tensor | None, lengths: Tensor, *, length_normalised: bool
) -> Tensor:
    """u of each response, of the shape of `logps`.

    logps, reference: summed log-probabilities under policy and reference; None is no reference.
    lengths: tokens of each response.
    length_normalised: whether u is a mean over tokens instead of a sum.
    """
    logratios = logps if reference is None else logps - reference
    return logratios / lengths if length_normalised else logratios


def wrpo_loss(
    source_logratio: Tensor,
    target_logratio: Tensor,
    rejected_logratio: Tensor,
    *,
    alpha: float,
    beta: float,
    label_smoothing: float = 0.0,
    loss: str = "sigmoid",
    margin: float = 0.0,
) -> Tensor:
    """Weighted-reward preference loss of each triple, shape (batch,).

    The log-ratios are u of y_ws, y_wt and y_l, each (batch,). With

        d = alpha * u(y_ws) + (1 - alpha) * u(y_wt) - u(y_l)

    the loss is `preference_loss` of d. alpha = 0 is the loss of the pair (y_wt, y_l), alpha = 1
    that of (y_ws, y_l).

    Source: WRPO (arXiv 2412.03187) with loss "sigmoid".
    """
    gap = alpha * source_logratio + (1.0 - alpha) * target_logratio - rejected_logratio
    return preference_loss(
        gap, beta=beta, loss=loss, margin=margin, label_smoothing=label_smoothing
    )


def preference_loss(
    gap: Tensor, *, beta: float, loss: str, margin: float = 0.0, label_smoothing: float = 0.0
) -> Tensor:
    """Loss of each preference, of the shape of `gap`, the difference d of two values of u.

    With x = beta * d - margin and eps = `label_smoothing`:

    sigmoid        -(1 - eps) * log sigmoid(x) - eps * log sigmoid(-x), u summed over tokens:
                   DPO (arXiv 2305.18290, eq. 7), smoothed as in conservative DPO
    sigmoid_norm   the same, u averaged over tokens: length-normalised DPO (Tulu 3, arXiv
                   2411.15124; FuseChat-3.0, arXiv 2503.04222). Without a reference and with a
                   margin gamma it is SimPO (arXiv 2405.14734, eq. 6)
    hinge          max(0, 1 - x), u summed over tokens: SLiC (arXiv 2305.10425)
    ipo            (d - 1 / (2 * beta))^2, u averaged over tokens: IPO (arXiv 2310.12036, eq. 17
                   with tau = beta); the average is what its authors used, as TRL notes
    `ipo` has a margin of its own and takes none; it and `hinge` take no label smoothing.
    `wrpo.objectives.options.loss_problem` says what goes together.
    """
    if loss == "ipo":
        return (gap - 1.0 / (2.0 * beta)) ** 2
    scaled = beta * gap - margin
    if loss == "hinge":
        return torch.relu(1.0 - scaled)
    if label_smoothing == 0.0:
        return -logsigmoid(scaled)
    return -(1.0 - label_smoothing) * logsigmoid(scaled) - label_smoothing * logsigmoid(-scaled)


def cgpo_loss(
    desirable: Tensor,
    undesirable: Tensor,
    anchor: Tensor,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> Tensor:
    """Pointwise loss of desirable and undesirable responses of each prompt, shape (batch,).

    `desirable` (batch, d) and `undesirable` (batch, k) hold u as a mean over tokens, against the
    initial policy where desirable and against the calibrated consensus of the sources where not.
    `anchor` (batch,) holds u of a response to another prompt, against the initial policy. With its
    mean z over the batch, which may be one prompt, and through which no gradient flows,

        loss = w_d * mean(1 - sigmoid(beta * (u - z))) over desirable
             + w_u * mean(1 - sigmoid(beta * (z - u))) over undesirable

    Source: CGPO (Consensus-Guided Preference Optimization, 2026), eq. 15 as its code numbers it.
    """
    zero = anchor.detach().mean()
    attracted = 1.0 - torch.sigmoid(beta * (desirable - zero))
    repelled = 1.0 - torch.sigmoid(beta * (zero - undesirable))
    return desirable_weight * attracted.mean(dim=1) + undesirable_weight * repelled.mean(dim=1)


def likelihood_term(
    logps: Mapping[str, Tensor],
    lengths: Mapping[str, Tensor],
    *,
    on: str,
    source_is_better: Tensor | None = None,
) -> Tensor:
    """Mean negative log-likelihood per token of the response that `on` names, (batch,), in nats.

    `logps` and `lengths` hold summed log-probabilities and token counts by response name, each
    (batch,). `on` is "source_chosen", "chosen", "both" (the mean of the two) or "better"
    (source_chosen where `source_is_better` (batch,) is true, else chosen).
    """
    names = {"both": ("source_chosen", "chosen"), "better": ("source_chosen", "chosen")}
    terms = [-logps[name] / lengths[name] for name in names.get(on, (on,))]
    if on == "better" and source_is_better is not None:
        source, target = terms
        return torch.where(source_is_better, source, target)
    return torch.stack(terms).mean(dim=0)


def sum_by_response(values: Tensor, response_index: Tensor, *, shape: torch.Size) -> Tensor:
    """Add per-token values up to one number per response; `shape` is (prompts, responses).

    `response_index` names the slot of each token: its response as a flat index into `shape`, and
    the first index beyond for tokens of no response. `values` may hold more leading columns than
    `response_index` (virtual tokens of a soft prompt): they are left out. Sums are taken in float32
    at least.
    """
    values = values[:, -response_index.shape[1] :]
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    slots = values.new_zeros(shape.numel() + 1)
    return slots.index_add(0, response_index.flatten(), values.flatten())[:-1].view(shape)

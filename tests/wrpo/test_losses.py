import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wrpo.losses import (
    cgpo_loss,
    implicit_rewards,
    likelihood_term,
    preference_loss,
    sum_by_response,
    wrpo_loss,
)
from wrpo.objectives.options import LOSSES

LOGRATIO = st.floats(-300, 300)


def _tensors(*values):
    return [torch.tensor([v], dtype=torch.float64) for v in values]


def _closed_form(gap, beta, loss, margin, eps):
    """The formulas of the papers to 60 digits."""
    with mpmath.workdps(60):
        gap, beta, margin, eps = map(mpmath.mpf, (gap, beta, margin, eps))
        if loss == "ipo":
            return float((gap - 1 / (2 * beta)) ** 2)
        scaled = beta * gap - margin
        if loss == "hinge":
            return float(max(0, 1 - scaled))
        right, wrong = (mpmath.log1p(mpmath.exp(-sign * scaled)) for sign in (1, -1))
        return float((1 - eps) * right + eps * wrong)


@settings(max_examples=200, deadline=None)
@given(LOGRATIO, st.floats(1e-3, 10), st.sampled_from(LOSSES), st.floats(0, 2), st.floats(0, 0.49))
def test_every_loss_equals_its_closed_form(gap, beta, loss, margin, eps):
    margin = 0.0 if loss == "ipo" else margin
    eps = 0.0 if loss in ("ipo", "hinge") else eps
    value = preference_loss(
        *_tensors(gap), beta=beta, loss=loss, margin=margin, label_smoothing=eps
    )
    expected = _closed_form(gap, beta, loss, margin, eps)
    assert value.item() == pytest.approx(expected, rel=1e-10, abs=1e-10)


@settings(max_examples=200, deadline=None)
@given(LOGRATIO, LOGRATIO, LOGRATIO, st.floats(0, 1), st.floats(1e-3, 10), st.sampled_from(LOSSES))
def test_wrpo_loss_is_that_of_the_weighted_difference(source, target, rejected, alpha, beta, loss):
    value = wrpo_loss(*_tensors(source, target, rejected), alpha=alpha, beta=beta, loss=loss)
    with mpmath.workdps(60):
        gap = mpmath.mpf(alpha) * source + (1 - mpmath.mpf(alpha)) * target - rejected
    expected = _closed_form(gap, beta, loss, 0.0, 0.0)
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("length_normalised", [True, False])
def test_implicit_rewards_are_sums_or_means_of_log_ratios(length_normalised):
    logps, reference = torch.tensor([[-6.0, -2.0]]), torch.tensor([[-3.0, -8.0]])
    lengths = torch.tensor([[3, 4]])
    rewards = implicit_rewards(logps, reference, lengths, length_normalised=length_normalised)
    assert rewards.tolist() == ([[-1.0, 1.5]] if length_normalised else [[-3.0, 6.0]])
    free = implicit_rewards(logps, None, lengths, length_normalised=length_normalised)
    assert free.tolist() == ([[-2.0, -0.5]] if length_normalised else [[-6.0, -2.0]])


def test_simpo_is_the_normalised_loss_without_a_reference_and_with_a_margin():
    logps, lengths = torch.tensor([[-30.0, -80.0]]).double(), torch.tensor([[20, 40]])
    chosen, rejected = implicit_rewards(logps, None, lengths, length_normalised=True).unbind(1)
    value = preference_loss(chosen - rejected, beta=2.5, loss="sigmoid_norm", margin=1.375)
    expected = math.log1p(math.exp(-(2.5 / 20 * -30.0 - 2.5 / 40 * -80.0 - 1.375)))
    assert value.item() == pytest.approx(expected, rel=1e-12)


def _cgpo_reference(desirable, undesirable, anchors, beta, w_d, w_u):
    """The pointwise loss over all responses of a batch, label by label, without tensors."""
    zero = math.fsum(anchors) / len(anchors)

    def side(values, sign):
        terms = [1 - 1 / (1 + math.exp(-beta * sign * (v - zero))) for v in values]
        return math.fsum(terms) / len(terms)

    return w_d * side([v for pair in desirable for v in pair], 1) + w_u * side(undesirable, -1)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(-5, 5)] * 4), min_size=1, max_size=6),
    st.floats(0.01, 3),
    st.floats(0, 2),
    st.floats(0, 2),
)
def test_cgpo_loss_is_the_mean_of_each_label(rows, beta, w_d, w_u):
    table = torch.tensor(rows, dtype=torch.float64)
    losses = cgpo_loss(
        table[:, :2],
        table[:, 2:3],
        table[:, 3],
        beta=beta,
        desirable_weight=w_d,
        undesirable_weight=w_u,
    )
    expected = _cgpo_reference(
        [row[:2] for row in rows],
        [row[2] for row in rows],
        [row[3] for row in rows],
        beta,
        w_d,
        w_u,
    )
    assert losses.mean().item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_no_gradient_flows_through_the_anchor_of_cgpo():
    tensors = [torch.zeros(2, n, dtype=torch.float64, requires_grad=True) for n in (2, 1)]
    anchor = torch.ones(2, dtype=torch.float64, requires_grad=True)
    weights = {"desirable_weight": 1.0, "undesirable_weight": 1.0}
    cgpo_loss(*tensors, anchor, beta=0.5, **weights).sum().backward()
    assert anchor.grad is None
    assert all((tensor.grad != 0).all() for tensor in tensors)


@pytest.mark.parametrize("logratio", [1e6, -1e6])
def test_loss_and_gradient_stay_finite_for_huge_log_ratios(logratio):
    source, target, rejected = (t.requires_grad_() for t in _tensors(logratio, logratio, 0.0))
    loss = wrpo_loss(source, target, rejected, alpha=0.5, beta=1.0, label_smoothing=0.1).sum()
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(math.isfinite(t.grad.item()) for t in (source, target, rejected))


@settings(max_examples=50, deadline=None)
@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(-20, 20), st.floats(0, 1))
def test_gradient_is_minus_beta_sigmoid_of_minus_delta_times_the_weights(s, t, r, alpha):
    beta = 0.4
    inputs = [x.requires_grad_() for x in _tensors(s, t, r)]
    wrpo_loss(*inputs, alpha=alpha, beta=beta).sum().backward()
    delta = beta * (alpha * s + (1 - alpha) * t - r)
    slope = -beta / (1 + math.exp(delta))
    expected = (slope * alpha, slope * (1 - alpha), -slope)
    assert [x.grad.item() for x in inputs] == pytest.approx(expected, rel=1e-9, abs=1e-15)


@given(LOGRATIO, LOGRATIO, st.floats(0, 1))
def test_alpha_does_not_matter_when_both_preferred_responses_are_alike(preferred, rejected, alpha):
    preferred, rejected = _tensors(preferred, rejected)
    value = wrpo_loss(preferred, preferred, rejected, alpha=alpha, beta=0.1)
    pair = preference_loss(preferred - rejected, beta=0.1, loss="sigmoid")
    assert value.item() == pytest.approx(pair.item(), abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_alpha_zero_ignores_the_source_and_alpha_one_the_target(loss):
    source, target, rejected = _tensors(3.0, -2.0, 0.5)
    options = {"beta": 0.3, "loss": loss}
    on_target = wrpo_loss(source, target, rejected, alpha=0.0, **options)
    on_source = wrpo_loss(source, target, rejected, alpha=1.0, **options)
    assert on_target.equal(preference_loss(target - rejected, **options))
    assert on_source.equal(preference_loss(source - rejected, **options))


def test_loss_is_ln_2_where_policy_and_reference_agree():
    zero = torch.zeros(3)
    assert wrpo_loss(zero, zero, zero, alpha=0.3, beta=0.1).tolist() == pytest.approx(
        [math.log(2)] * 3
    )


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("source_chosen", [1.0, 2.0]),
        ("chosen", [3.0, 5.0]),
        ("both", [2.0, 3.5]),
        ("better", [1.0, 5.0]),
    ],
)
def test_likelihood_term_is_the_mean_over_tokens_of_the_named_response(on, expected):
    logps = {"source_chosen": torch.tensor([-2.0, -8.0]), "chosen": torch.tensor([-9.0, -5.0])}
    lengths = {"source_chosen": torch.tensor([2, 4]), "chosen": torch.tensor([3, 1])}
    better = torch.tensor([True, False])
    assert likelihood_term(logps, lengths, on=on, source_is_better=better).tolist() == expected


def test_sums_go_to_their_slot_and_virtual_tokens_are_left_out():
    values = torch.tensor([[99.0, 1.0, 2.0, 4.0], [99.0, 8.0, 16.0, 32.0]])
    index = torch.tensor([[6, 0, 0], [5, 4, 5]])
    sums = sum_by_response(values, index, shape=torch.Size([2, 3]))
    assert sums.tolist() == [[6.0, 0.0, 0.0], [0.0, 16.0, 40.0]]


def test_sums_of_half_precision_values_are_taken_in_float32():
    values = torch.full((1, 4096), 1.0, dtype=torch.bfloat16)
    index = torch.zeros(1, 4096, dtype=torch.long)
    sums = sum_by_response(values, index, shape=torch.Size([1, 3]))
    assert sums[0, 0].item() == 4096.0

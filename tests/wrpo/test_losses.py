import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wrpo.errors import RecipeError
from wrpo.losses import dpo_loss, likelihood_loss, likelihood_term, sum_by_response, wrpo_loss

LOGRATIO = st.floats(-300, 300)


def _tensors(*values):
    return [torch.tensor([v], dtype=torch.float64) for v in values]


def _closed_form(source, target, rejected, alpha, beta, eps):
    """-(1-eps) log sigmoid(delta) - eps log sigmoid(-delta), to 60 digits."""
    with mpmath.workdps(60):
        source, target, rejected, alpha, beta, eps = map(
            mpmath.mpf, (source, target, rejected, alpha, beta, eps)
        )
        delta = beta * (alpha * source + (1 - alpha) * target - rejected)
        return float(
            (1 - eps) * mpmath.log1p(mpmath.exp(-delta)) + eps * mpmath.log1p(mpmath.exp(delta))
        )


@settings(max_examples=200, deadline=None)
@given(LOGRATIO, LOGRATIO, LOGRATIO, st.floats(0, 1), st.floats(1e-3, 10), st.floats(0, 0.49))
def test_wrpo_loss_equals_the_closed_form(source, target, rejected, alpha, beta, eps):
    loss = wrpo_loss(
        *_tensors(source, target, rejected), alpha=alpha, beta=beta, label_smoothing=eps
    )
    expected = _closed_form(source, target, rejected, alpha, beta, eps)
    assert loss.item() == pytest.approx(expected, rel=1e-10, abs=1e-10)


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
    inputs = _tensors(preferred, preferred, rejected)
    loss = wrpo_loss(*inputs, alpha=alpha, beta=0.1)
    assert loss.item() == pytest.approx(dpo_loss(*inputs[1:], beta=0.1).item(), abs=1e-12)


def test_alpha_zero_ignores_the_source_and_alpha_one_the_target():
    source, target, rejected = _tensors(3.0, -2.0, 0.5)
    on_target = wrpo_loss(source, target, rejected, alpha=0.0, beta=0.3)
    on_source = wrpo_loss(source, target, rejected, alpha=1.0, beta=0.3)
    assert on_target.equal(dpo_loss(target, rejected, beta=0.3))
    assert on_source.equal(dpo_loss(source, rejected, beta=0.3))


def test_loss_is_ln_2_where_policy_and_reference_agree():
    zero = torch.zeros(3)
    assert wrpo_loss(zero, zero, zero, alpha=0.3, beta=0.1).tolist() == pytest.approx(
        [math.log(2)] * 3
    )


@pytest.mark.parametrize("alpha", [-0.01, 1.01, math.nan])
def test_alpha_outside_the_unit_interval_is_refused(alpha):
    with pytest.raises(RecipeError, match="alpha"):
        wrpo_loss(*_tensors(0, 0, 0), alpha=alpha, beta=0.1)


@pytest.mark.parametrize("eps", [-0.1, 0.5])
def test_label_smoothing_of_a_half_or_less_than_nothing_is_refused(eps):
    with pytest.raises(RecipeError, match="label_smoothing"):
        wrpo_loss(*_tensors(0, 0, 0), alpha=0.1, beta=0.1, label_smoothing=eps)


def test_likelihood_loss_is_the_mean_over_tokens():
    loss = likelihood_loss(torch.tensor([-6.0, -1.0]), torch.tensor([3, 4]))
    assert loss.tolist() == [2.0, 0.25]


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("source_chosen", [1.0, 2.0]),
        ("chosen", [3.0, 5.0]),
        ("both", [2.0, 3.5]),
        ("better", [1.0, 5.0]),
    ],
)
def test_likelihood_term_reads_the_named_response(on, expected):
    logps = torch.tensor([[-2.0, -9.0, -1.0], [-8.0, -5.0, -1.0]])
    lengths = torch.tensor([[2, 3, 1], [4, 1, 1]])
    better = torch.tensor([True, False])
    term = likelihood_term(logps, lengths, on=on, source_is_better=better)
    assert term.tolist() == expected


def test_sums_go_to_their_slot_and_virtual_tokens_are_left_out():
    values = torch.tensor([[99.0, 1.0, 2.0, 4.0], [99.0, 8.0, 16.0, 32.0]])
    index = torch.tensor([[6, 0, 0], [5, 4, 5]])
    sums = sum_by_response(values, index, prompts=2)
    assert sums.tolist() == [[6.0, 0.0, 0.0], [0.0, 16.0, 40.0]]


def test_sums_of_half_precision_values_are_taken_in_float32():
    values = torch.full((1, 4096), 1.0, dtype=torch.bfloat16)
    sums = sum_by_response(values, torch.zeros(1, 4096, dtype=torch.long), prompts=1)
    assert sums[0, 0].item() == 4096.0

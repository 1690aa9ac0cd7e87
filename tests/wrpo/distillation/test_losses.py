"""Losses over stored distributions against the whole vocabulary, autograd and float64."""

import math

import pytest
import torch

from wrpo.distillation.losses import cross_entropy, entropy, expected_advantage, kl, mean_over
from wrpo.distillation.table import remainder

V = 20


def distributions(seed: int, shape: tuple[int, ...] = (3, 4)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, V, generator=generator)


def stored(logits: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    logps = logits.log_softmax(-1)
    ids = logps.topk(k, dim=-1).indices
    return ids, logps.gather(-1, ids), remainder(logps, ids)


def full_kl(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    p, q = teacher.double().log_softmax(-1), student.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


def test_the_bucketed_divergence_is_at_most_the_full_one_and_equal_at_all_but_one() -> None:
    teacher, student = distributions(0), distributions(1)
    full = full_kl(teacher, student)
    before = torch.zeros_like(full)
    for k in (1, 5, 10, V - 1):
        found = kl(student, *stored(teacher, k)).double()
        assert (found <= full + 1e-5).all()
        assert (found >= before - 1e-5).all()  # more entries tell more
        before = found
    torch.testing.assert_close(before, full, rtol=0, atol=1e-5)


@pytest.mark.parametrize("k", [1, 3, 10])
def test_a_student_that_is_its_teacher_has_no_gradient(k: int) -> None:
    student = distributions(2).requires_grad_()
    told = stored(student.detach(), k)
    loss = cross_entropy(student, *told)
    torch.testing.assert_close(loss, entropy(*told[1:]), rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert gradient.norm() < 1e-5
    (other,) = torch.autograd.grad(cross_entropy(student, *told, renormalize=True).sum(), student)
    assert other.norm() > 0.1  # the released code's


def test_entries_that_are_none_and_a_certain_label_count_as_they_should() -> None:
    student = distributions(3, (2,))
    label = torch.tensor([[4], [7]])
    certain = cross_entropy(student, label, torch.zeros(2, 1), torch.full((2,), -math.inf))
    plain = torch.nn.functional.cross_entropy(student, label[:, 0], reduction="none")
    torch.testing.assert_close(certain, plain)
    ids, logps, rest = stored(distributions(4, (2,)), 3)
    padded_ids = torch.cat([ids, torch.zeros(2, 2, dtype=torch.long)], -1)
    padded = torch.cat([logps, torch.full((2, 2), -math.inf)], -1)
    torch.testing.assert_close(kl(student, padded_ids, padded, rest), kl(student, ids, logps, rest))


def test_the_gradient_of_the_advantage_is_that_of_the_policy() -> None:
    """d/dz_a of sum pi A is pi_a (A_a - E[A])."""
    student = distributions(5, ()).double().requires_grad_()
    ids = torch.tensor([3, 8, 11])
    advantage = torch.tensor([2.5, -1.5, 0.3], dtype=torch.float64)
    (found,) = torch.autograd.grad(expected_advantage(student, ids, advantage), student)
    policy = student.detach().softmax(-1)
    whole = torch.zeros(V, dtype=torch.float64).index_put((ids,), advantage)
    expected = policy * (whole - (policy * whole).sum())
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_clipping_forgets_negative_advantages() -> None:
    student, ids = distributions(6, ()), torch.tensor([1, 2, 3])
    advantage = torch.tensor([2.5, -1.5, 0.3])
    clipped = expected_advantage(student, ids, advantage, clip=True)
    by_hand = (student.softmax(-1)[1:4] * torch.tensor([1.0, 0.0, 0.3])).sum()
    torch.testing.assert_close(clipped, by_hand, rtol=0, atol=1e-6)


def test_means_are_over_the_tokens_of_each_response() -> None:
    values = torch.tensor([[1.0, 3.0, 100.0], [5.0, 100.0, 100.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_over(values, mask).tolist() == [2.0, 5.0]


@pytest.mark.parametrize("renormalize", [False, True])
def test_positions_of_padding_give_nothing_and_no_gradient(renormalize: bool) -> None:
    student = distributions(7, (2,)).requires_grad_()
    none = torch.full((2, 3), -math.inf)
    told = torch.zeros(2, 3, dtype=torch.long), none, torch.full((2,), -math.inf)
    loss = cross_entropy(student, *told, renormalize=renormalize)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert loss.tolist() == [0.0, 0.0] and not gradient.any()
    assert entropy(*told[1:], renormalize=renormalize).tolist() == [0.0, 0.0]

"""ProFuser as we read it: its stages, FuseLLM as a special case, and two modes that disagree."""

import pytest
import torch

from tests.wrpo.distillation.test_objectives import learned
from wrpo.distillation.choose import teacher_weights
from wrpo.errors import DataError
from wrpo.objectives.base import LogitPlace
from wrpo.objectives.fusellm import FuseLLMSettings, negative_log_likelihood
from wrpo.objectives.profuser import ModeWeights, ProFuserSettings


def test_the_weights_change_at_the_boundary_of_the_stages() -> None:
    settings = ProFuserSettings()
    found = [settings.weights_at(progress) for progress in (0.0, 0.49, 0.5, 1.0)]
    assert found == [settings.first, settings.first, settings.second, settings.second]
    assert (settings.first.inference, settings.first.training) == (1.0, 0.0)
    assert (settings.second.inference, settings.second.training) == (0.1, 1.0)
    assert ProFuserSettings(first_share=0.0).weights_at(0.0) == settings.second


def test_training_mode_alone_is_fusellm_divided_by_lambda() -> None:
    """With KL the losses are proportional as they stand; with cross-entropy, their gradients."""
    both = learned(1, teachers=2)
    weights = ModeWeights(inference=0.0, training=1.0)
    settings = ProFuserSettings(first=weights, divergence_weight=(1 - 0.8) / 0.8)
    loss, _ = settings.loss({"source_chosen": both}, 0.0)
    second = both.teachers[1]._replace(weight=torch.ones(2))
    fusellm = FuseLLMSettings(clm_weight=0.8, divergence="kl")
    expected, _ = fusellm.loss({"source_chosen": both._replace(teachers=[second])}, 0.0)
    torch.testing.assert_close(loss, expected / 0.8)


def test_stages_learn_from_their_mode_only() -> None:
    both = learned(2, teachers=2)
    settings = ProFuserSettings(divergence_weight=1.0)
    first, metrics = settings.loss({"source_chosen": both}, 0.0)
    torch.testing.assert_close(first, negative_log_likelihood(both) + metrics["kl/inference"])
    second, _ = settings.loss({"source_chosen": both}, 0.9)
    clm = negative_log_likelihood(both)
    by_hand = 0.1 * (clm + metrics["kl/inference"]) + clm + metrics["kl/training"]
    torch.testing.assert_close(second, by_hand)


def test_a_student_that_is_both_teachers_has_no_gradient_but_that_of_the_likelihood() -> None:
    one = learned(3, teachers=2, like_student=True)
    for progress in (0.0, 1.0):
        settings = ProFuserSettings(divergence_weight=5.0)
        loss, _ = settings.loss({"source_chosen": one}, progress)
        (found,) = torch.autograd.grad(loss.sum(), one.logits)
        weights = settings.weights_at(progress)
        clm = negative_log_likelihood(one) * (weights.inference + weights.training)
        (expected,) = torch.autograd.grad(clm.sum(), one.logits)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def stored(costs: dict[str, float]) -> dict[LogitPlace, dict[str, object]]:
    """A table each, whose distributions tell the models apart."""
    return {
        LogitPlace(name, "source_chosen"): {
            "token_ids": [1],
            "top_ids": [[place]],
            "top_logps": [[-0.1]],
            "rest": [-2.0],
            "mean_nll": cost,
        }
        for place, (name, cost) in enumerate(costs.items())
    }


def test_who_said_it_teaches_first_and_who_finds_it_likeliest_second() -> None:
    settings = ProFuserSettings()
    for costs in ({"a": 1.0, "b": 0.5}, {"b": 0.5, "a": 1.0}):
        lessons = settings.lessons("source_chosen", stored(costs), "a")
        assert [one.model for one in lessons] == ["a", "b"]
        assert [one.stored.ids[0][0] for one in lessons] == [list(costs).index(n) for n in "ab"]
    with pytest.raises(DataError, match="by c, whose distributions are not read; teachers: a, b"):
        settings.lessons("source_chosen", stored({"a": 1.0, "b": 0.5}), "c")


def test_the_two_modes_disagree_where_they_must() -> None:
    """a is the true bigram model and b the same one sharpened; the reward is likelihood under a."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 12, generator=generator)
    a, b = logits.log_softmax(-1), (3 * logits).log_softmax(-1)

    def said(model: torch.Tensor, length: int = 2000) -> list[int]:
        ids = [0]
        for _ in range(length):
            ids.append(int(torch.multinomial(model[ids[-1]].exp(), 1, generator=generator)))
        return ids

    def cost(model: torch.Tensor, ids: list[int]) -> float:
        return -float(model[ids[:-1], ids[1:]].mean())

    reference = said(a)
    in_training = teacher_weights({"a": cost(a, reference), "b": cost(b, reference)}, "min_ce")
    rewards = {"a": -cost(a, said(a)), "b": -cost(a, said(b))}
    assert in_training["a"] == 1.0 and max(rewards, key=lambda name: rewards[name]) == "b"


def test_its_unknown_code_cannot_be_reproduced() -> None:
    with pytest.raises(ValueError, match="code is not known"):
        ProFuserSettings(upstream=True)

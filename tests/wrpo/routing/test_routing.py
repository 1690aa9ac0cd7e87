"""A router of sources: its objective against closed forms, and what it finds and must not find."""

import random
from pathlib import Path

import pytest
import torch

from wrpo.errors import DataError, MissingInputError
from wrpo.routing.learn import learn
from wrpo.routing.objective import marginal_nll, posterior
from wrpo.routing.router import Router

SOURCES = ("a", "b", "c")


def drawn(seed: int, k: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores, logs = (torch.randn(5, k, dtype=torch.float64, generator=generator) for _ in range(2))
    return scores, logs


def test_the_gradient_is_the_choice_minus_the_posterior() -> None:
    scores, logs = drawn(0)
    (gradient,) = torch.autograd.grad(marginal_nll(scores.requires_grad_(), logs).sum(), scores)
    expected = scores.softmax(-1) - posterior(scores, logs)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-15)


def test_one_source_is_plain_likelihood_and_equal_ones_leave_the_choice_alone() -> None:
    scores, logs = drawn(1, k=1)
    torch.testing.assert_close(marginal_nll(scores, logs), -logs[:, 0])
    scores, logs = drawn(2)
    same = logs[:, :1].expand(-1, 4)
    torch.testing.assert_close(marginal_nll(scores, same), -logs[:, 0])
    bound = -logs - scores.log_softmax(-1)
    assert (marginal_nll(scores, logs)[:, None] <= bound + 1e-12).all()


TOPICS = {"a": "sum the numbers", "b": "write a rhyme", "c": "name the capital"}


def world(
    count: int, *, skilled: float
) -> tuple[list[list[dict[str, str]]], list[dict[str, float]]]:
    """Prompts of three kinds; the source of a kind is better there by `skilled`, a is best else."""
    generator = random.Random(0)
    prompts, scores = [], []
    for number in range(count):
        kind = generator.choice(SOURCES)
        prompts.append([{"role": "user", "content": f"Please {TOPICS[kind]} of case {number}."}])
        scores.append(
            {
                name: generator.gauss(0, 0.3) + skilled * (name == kind) + 0.1 * (name == "a")
                for name in SOURCES
            }
        )
    return prompts, scores


def test_planted_skills_are_routed_to_and_a_shuffled_router_gains_nothing() -> None:
    prompts, scores = world(400, skilled=1.0)
    router, measured = learn(prompts, scores)
    assert measured.prompts == 80
    assert measured.gain > 0.4 and measured.gain > 4 * measured.error
    assert measured.router > measured.best_single > measured.uniform
    assert measured.router > 0.9 * measured.oracle
    assert measured.shuffled < 0.25 * measured.gain
    for name, topic in TOPICS.items():
        asked = [{"role": "user", "content": f"Please {topic} of case 9999."}]
        assert router.chosen(asked, count=1) == [name]
        assert len(router.chosen(asked, count=2)) == 2
    assert sum(router.shares[0].values()) == pytest.approx(1.0)
    assert router.shares[2] == dict.fromkeys(SOURCES, 1.0)


def test_without_skills_nothing_is_gained_and_without_differences_nothing_is_learned() -> None:
    prompts, scores = world(400, skilled=0.0)
    _, measured = learn(prompts, scores)
    assert measured.gain <= 3 * measured.error
    router, _ = learn(prompts, [dict.fromkeys(SOURCES, 1.0)] * 400)
    assert router.scores(prompts[0]) == [0.0, 0.0, 0.0]


def test_a_router_is_a_file(tmp_path: Path) -> None:
    prompts, scores = world(60, skilled=1.0)
    router, _ = learn(prompts, scores)
    router.save(tmp_path / "router.json", learned_from=60)
    again = Router.load(tmp_path / "router.json")
    assert again.sources == SOURCES and again.shares == router.shares
    assert again.scores(prompts[0]) == pytest.approx(router.scores(prompts[0]), abs=1e-4)
    with pytest.raises(MissingInputError, match="python -m wrpo.routing"):
        Router.load(tmp_path / "nowhere.json")
    with pytest.raises(DataError, match="a router needs 50 or more and two sources"):
        learn(prompts[:9], scores[:9])

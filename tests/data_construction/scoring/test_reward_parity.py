"""A reward whose choice depends on the batch is told apart from one with rounding."""

import pytest

from data_construction.scoring import reward_parity
from wrpo import rewards
from wrpo.errors import ModelError
from wrpo.recipe import load_recipe
from wrpo.rewards.classifier import ClassifierReward


class Scores:
    """Scores by length; `shift` is added to every second response of a batch."""

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def score(self, candidates: list[rewards.Candidate]) -> list[float]:
        return [len(c.response) + self.shift * (n % 2) for n, c in enumerate(candidates)]


@pytest.mark.parametrize(("shift", "ok"), [(0.0, True), (1e-6, True), (500.0, False)])
def test_other_choices_in_a_batch_are_a_problem(
    write_recipe, monkeypatch: pytest.MonkeyPatch, shift: float, ok: bool
) -> None:
    monkeypatch.setattr(ClassifierReward, "load", lambda settings: Scores(shift))
    recipe = load_recipe(write_recipe())
    [found] = reward_parity.check_rewards(recipe)
    assert (found["reward"], found["ok"]) == ("style", ok)


def test_a_model_that_cannot_be_loaded_is_a_finding(
    write_recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(settings: object) -> None:
        raise ModelError("no such file")

    monkeypatch.setattr(ClassifierReward, "load", load)
    [found] = reward_parity.check_rewards(load_recipe(write_recipe()))
    assert found == {"reward": "style", "ok": False, "message": "no such file"}


def test_conversations_differ_and_are_the_same_each_time() -> None:
    first, again = reward_parity.random_candidates(), reward_parity.random_candidates()
    assert first == again
    assert len({(str(c.messages), c.response) for c in first}) == len(first) == 16

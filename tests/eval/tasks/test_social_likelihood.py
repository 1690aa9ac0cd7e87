"""SocialBench by likelihood, through lm-eval: an oracle, a guesser, and options in any order."""

from __future__ import annotations

import json
import logging
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from eval.harness.results import read_results, read_samples
from eval.run import evaluate_models
from eval.tasks.social import likelihood, social
from tests.eval.conftest import make_recipe
from tests.support.tiny_models import save_tiny
from wrpo.errors import DataError

GROUP = "socialbench_loglik"
STYLE, EMOTION = "Individual-SA-RoleStyle", "Individual-EP-DialogueEmotionDetect"
CATEGORIES = (
    STYLE,
    EMOTION,
    "Individual-SA-RoleKnowledge",
    "Individual-EP-HumorSarcasmDetect",
    "Group-SAP-Positive",
    "Group-SAP-Neutral",
    "Group-SAP-Negative",
)
Says = Callable[[str, str], float]
"""The log-prob of a letter, given the text of its option and the prompt."""


def record(number: int, category: str = STYLE, options: int = 4) -> dict[str, Any]:
    """A question whose right option says so, at a place that changes with the number."""
    right = number % options
    texts = [f"reply {n} to {number}{' (right)' * (n == right)}" for n in range(options)]
    return {
        "dialogue": [{"from": "user", "value": f"Hello {number}?"}],
        "instruction": "How would Ada reply?",
        "choices": dict(zip(social.LETTERS, texts, strict=False)),
        "label": [social.LETTERS[right]],
        "meta": {"lang": "en", "profile": {"Ada": "kind"}, "category": category},
    }


class Reader(LM):
    """A model that is blind to positions: what it says of a letter follows from its option."""

    def __init__(self, says: Says) -> None:
        super().__init__()
        self.says = says

    def loglikelihood(self, requests: Any) -> list[tuple[float, bool]]:
        return [(self._of(*request.args), False) for request in requests]

    def _of(self, prompt: str, continuation: str) -> float:
        letter = continuation.strip()
        option = re.search(rf"^{letter}\. (.*)$", prompt, re.MULTILINE)
        assert option is not None, (letter, prompt)
        return self.says(option[1], prompt)

    def loglikelihood_rolling(self, requests: Any) -> list[float]:
        raise NotImplementedError

    def generate_until(self, requests: Any) -> list[str]:
        raise NotImplementedError


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts records where the tasks look for them."""
    monkeypatch.setenv(social.DATA, str(tmp_path / "records.json"))
    return lambda records: (tmp_path / "records.json").write_text(json.dumps(records)) and None


def measured(says: Says, name: str = f"{GROUP}_individual_sa_rolestyle") -> dict[str, float]:
    """The metrics of a task or group as lm-eval reports them."""
    manager = TaskManager(include_path=Path(social.__file__).parent, include_defaults=False)
    found = lm_eval.simple_evaluate(
        Reader(says), tasks=[name], task_manager=manager, bootstrap_iters=0, log_samples=False
    )
    return {metric: found["results"][name][f"{metric},none"] for metric in ("acc", "guess")}


def test_an_oracle_is_always_right_and_the_group_is_the_mean_over_categories(
    data: Callable[..., None],
) -> None:
    sizes = {STYLE: 9, EMOTION: 3}
    records = [
        record(n, c, 8 if c == EMOTION else 4) for c in CATEGORIES for n in range(sizes.get(c, 1))
    ]
    data(records)
    assert measured(lambda option, _: float("right" in option), GROUP) == {
        "acc": 1.0,
        "guess": pytest.approx((6 / 4 + 1 / 8) / 7),
    }


@pytest.mark.slow
def test_a_model_of_no_opinion_and_a_uniform_guesser_get_the_guessing_level(
    data: Callable[..., None],
) -> None:
    n = 300
    data([record(number, options=2 + number % 4) for number in range(n)])
    level = pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4)
    assert measured(lambda *_: 0.0) == {"acc": level, "guess": level}
    draw = random.Random(0)
    guesser = measured(lambda *_: draw.random())
    assert guesser["acc"] == pytest.approx(guesser["guess"], abs=3 * 0.5 / (2 * n) ** 0.5)


@pytest.mark.slow
def test_shuffled_and_relabelled_options_change_nothing_for_a_model_blind_to_positions(
    data: Callable[..., None],
) -> None:
    def opinion(option: str, _: str) -> float:
        return random.Random(option).random() + 0.4 * ("right" in option)

    def shuffled(given: dict[str, Any], draw: random.Random) -> dict[str, Any]:
        order = draw.sample(sorted(given["choices"]), len(given["choices"]))
        moved = dict(zip(order, sorted(given["choices"]), strict=True))
        choices = {moved[letter]: text for letter, text in given["choices"].items()}
        return {**given, "choices": choices, "label": [moved[one] for one in given["label"]]}

    records = [record(number) for number in range(40)]
    data(records)
    before = measured(opinion)
    assert before["guess"] < before["acc"] < 1.0
    for seed in range(3):
        draw = random.Random(seed)
        data([shuffled(one, draw) for one in records])
        assert measured(opinion) == before


def test_a_model_of_one_letter_is_right_no_more_often_than_by_guessing(
    data: Callable[..., None],
) -> None:
    """Control: both orders of the options, and the right one now the first, now the last."""
    data([record(number, options=2) for number in range(6)])
    first = measured(lambda option, prompt: float(f"\nA. {option}\n" in prompt))
    assert first == {"acc": 0.5, "guess": 0.5}


def test_questions_with_several_right_letters_are_left_out_and_counted(
    data: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    several = {**record(1), "label": ["A", "B"]}
    data([record(0), several])
    with caplog.at_level(logging.WARNING):
        found = likelihood.load(category=STYLE)["test"]
    assert found["target"] == [["A"], ["D"]]
    assert f"{STYLE}: 1 of 2 questions have not one right letter: left out" in caplog.text
    data([several])
    with pytest.raises(DataError, match="no question of .* has exactly one right letter"):
        likelihood.load(category=STYLE)


def test_a_tiny_model_is_measured_by_a_run(data: Callable[..., None], tmp_path: Path) -> None:
    """The letters are read after the prompt that `socialbench` generates from."""
    data([record(number) for number in range(3)])
    model = save_tiny(tmp_path / "model")
    generated, read = "socialbench_individual_sa_rolestyle", f"{GROUP}_individual_sa_rolestyle"
    recipe = make_recipe(tmp_path, model, tasks=[generated, read], dtype="float32")
    evaluate_models(recipe, "target")
    folder = recipe.runs / recipe.run / "eval" / "target"
    found = read_results(folder)["tasks"]
    assert found[read]["metrics"]["guess,none"]["value"] == 0.25
    assert found[read]["first_prompt"] == found[generated]["first_prompt"]
    samples = [one for one in read_samples(folder) if one.task == read]
    acc = found[read]["metrics"]["acc,none"]["value"]
    assert acc == pytest.approx(sum(one.values["acc"] for one in samples) / 6)
    assert {one.target for one in samples} <= set("ABCD")

"""Tasks of reasoning-gym: its own scores, what is refused, and what the start of scoring tries."""

from __future__ import annotations

import ast
import inspect
import json

import pytest

from wrpo.chat.limits import limited
from wrpo.errors import ModelError
from wrpo.pipeline.tables import Drop
from wrpo.rewards import Candidate, reasoning_gym
from wrpo.rewards.reasoning_gym import EXECUTED, ReasoningGymReward, find_answer, reference_of

EXECUTE_WHAT_THEY_MAKE = {
    *("basic_arithmetic", "codeio", "gsm_symbolic", "propositional_logic"),
}
"""Families that run text, but neither that of a response nor that of a row."""


def task(family: str, answer: str | None, **metadata: object) -> str:
    return json.dumps({"answer": answer, "metadata": {"source_dataset": family, **metadata}})


def scores(reference: str | None, *responses: str, tag: str | None = None) -> list[float | Drop]:
    verifier = ReasoningGymReward(type="reasoning_gym", tag=tag).load()
    return verifier.score([Candidate([], response, reference) for response in responses])


@pytest.fixture
def gym() -> None:
    pytest.importorskip("reasoning_gym")


def test_answers_are_found_between_the_last_tags() -> None:
    assert find_answer("<answer>1</answer> no: <answer> 2\n</answer>.", "answer") == "2"
    assert find_answer("<answer>1", "answer") is None
    assert find_answer("1</answer>", "answer") is None
    assert find_answer(" 1 ", None) == "1"


def test_scores_are_those_of_the_package(gym: None) -> None:
    from reasoning_gym import create_dataset

    data = create_dataset("word_sorting", size=5, seed=3)
    for entry in data:
        words = entry["metadata"]["sorted_words"]
        responses = [", ".join(words), ", ".join(reversed(words)), "no", words[0]]
        found = scores(reference_of(entry), *responses)
        assert found == [data.score_answer(response, entry) for response in responses]
        assert found[0] == 1.0


def test_partial_credit_stays(gym: None) -> None:
    assert scores(task("chain_sum", "12"), "12", "12.0", "It is 12.", "13") == [1, 1, 2 / 9, 0]


def test_no_answer_scores_nothing(gym: None) -> None:
    reference = task("chain_sum", "12")
    assert scores(reference, "12", "<answer>12</answer>", tag="answer") == [0.0, 1.0]


def test_a_scoring_function_that_fails_gives_nothing(gym: None) -> None:
    assert scores(task("prime_factorization", "139"), "139", "many") == [1.0, 0.0]


def test_a_scoring_function_without_end_gives_nothing(
    gym: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless(answer: str, entry: object) -> float:
        while True:
            pass

    monkeypatch.setattr(reasoning_gym, "_scorer", lambda family: endless)
    monkeypatch.setattr(reasoning_gym, "limited", lambda seconds: limited(0.2))
    assert scores(task("chain_sum", "12"), "12") == [0.0]


@pytest.mark.parametrize(
    ("reference", "reason", "detail"),
    [
        (None, "no_reference_answer", "prompts.datasets.NAME.reference_answer"),
        ("12", "bad_reference_answer", "expected"),
        ("{", "bad_reference_answer", "expected"),
        ('{"answer": "1", "metadata": "["}', "bad_reference_answer", "expected"),
        (task("no_such_family", "1"), "bad_reference_answer", "no_such_family"),
        (task("n_queens", "1"), "bad_reference_answer", "would execute"),
    ],
)
def test_what_is_no_task_is_refused(
    gym: None, reference: str | None, reason: str, detail: str
) -> None:
    [found] = scores(reference, "12")
    assert isinstance(found, Drop)
    assert found.reason == reason and detail in found.detail


def test_columns_of_answers_and_metadata_make_a_task(gym: None) -> None:
    columns = {"answer": "12", "metadata": json.dumps({"source_dataset": "chain_sum"})}
    assert scores(json.dumps(columns), "12") == [1.0]


def test_the_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasoning_gym, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'pip install "wrpo\[real\]"'):
        ReasoningGymReward(type="reasoning_gym").load()


def test_the_start_of_scoring_knows_right_and_wrong_responses(gym: None) -> None:
    settings = ReasoningGymReward(type="reasoning_gym")
    known = settings.self_check(task("chain_sum", "12"))
    tried = [known.right, *known.wrong, *known.partly_right]
    assert scores(task("chain_sum", "12"), *tried, tag="answer") == [1.0, 0.0, 0.0]
    assert settings.self_check("1").right is None


def _runs_text(source: str) -> bool:
    runners = {"eval", "exec", "parse_expr", "sympify", "parse_latex"}
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return any(getattr(c, "id", getattr(c, "attr", "")) in runners for c in calls)


def test_every_family_that_executes_answers_is_refused(gym: None) -> None:
    from reasoning_gym.factory import DATASETS

    modules = {name: inspect.getmodule(made) for name, (made, _) in DATASETS.items()}
    found = {name for name, module in modules.items() if _runs_text(inspect.getsource(module))}
    assert found | {"gsm_symbolic"} == EXECUTED | EXECUTE_WHAT_THEY_MAKE

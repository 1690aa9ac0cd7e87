"""Rewards that compute: unit tests, mathematics, instructions."""

import json

import pytest

from tests.wrpo.sandbox.test_sandbox import isolating
from wrpo.errors import ModelError, RecipeError, SandboxError
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import Drop
from wrpo.recipe.load import load_recipe
from wrpo.rewards import Candidate
from wrpo.rewards.base import SelfCheck
from wrpo.rewards.code import CodeReward
from wrpo.rewards.instruction import InstructionReward
from wrpo.rewards.math import MathReward

NESTED = "[" * 100_000


def scores(settings, reference_answer: str | None, *responses: str) -> list[float | Drop]:
    prompt = [{"role": "user", "content": "Do it."}]
    return settings.load().score(
        [Candidate(prompt, response, reference_answer) for response in responses]
    )


def code(**fields: object) -> CodeReward:
    return CodeReward(type="code", **{"cpu_s": 2, "wall_s": 8.0, "memory_mib": 256, **fields})


ASSERTS = json.dumps(["assert twice(2) == 4", "assert twice('a') == 'aa'", "assert twice(0) == 0"])
RIGHT = "Here:\n```python\ndef twice(x):\n    return 2 * x\n```\nDone."
ONLY_ZERO = "```python\ndef twice(x):\n    return 0\n```"


@isolating
def test_code_passes_all_tests_or_gets_nothing() -> None:
    responses = [RIGHT, ONLY_ZERO, "no program here", "", "```python\n```"]
    assert scores(code(), ASSERTS, *responses) == [1.0, 0.0, 0.0, 0.0, 0.0]


@isolating
def test_code_may_give_the_share_of_passed_tests() -> None:
    assert scores(code(partial=True), ASSERTS, RIGHT, ONLY_ZERO) == [1.0, pytest.approx(1 / 3)]


@isolating
def test_code_tests_may_be_plain_code() -> None:
    assert scores(code(), "assert twice(2) == 4", RIGHT, ONLY_ZERO) == [1.0, 0.0]


@isolating
def test_code_tests_may_be_inputs_and_outputs() -> None:
    reference_answer = json.dumps(
        [{"stdin": "3\n", "stdout": "6\n"}, {"stdin": "5", "stdout": "10"}]
    )
    responses = ["print(int(input()) * 2)", "print(6)", "print('6 ')\n"]
    assert scores(code(), reference_answer, *responses) == [1.0, 0.0, 0.0]
    assert scores(code(partial=True), reference_answer, *responses) == [1.0, 0.5, 0.5]


@isolating
@pytest.mark.parametrize(
    "program", ["exit()", "import os; os._exit(0)", "raise SystemExit(0)", "while True: pass"]
)
def test_a_program_that_leaves_before_the_tests_passes_none(program: str) -> None:
    assert scores(code(cpu_s=1), "assert x == 1", program) == [0.0]


@isolating
def test_code_scores_are_the_same_again_and_for_any_number_of_workers() -> None:
    program = "print(list({'a', 'b', 'c', 'd', 'e'}))"
    output = json.dumps([{"stdin": "", "stdout": "['a', 'b', 'c', 'd', 'e']"}])
    few, many = code(), code(engine={"workers": 3})
    assert scores(few, output, program, RIGHT) == scores(many, output, program, RIGHT)


@isolating
@pytest.mark.parametrize(
    "reference_answer", ["", "[]", "[1]", '[{"stdin": "x"}]', '["assert True", null]', NESTED]
)
def test_unreadable_code_tests_are_refused(reference_answer: str) -> None:
    [result] = scores(code(), reference_answer, RIGHT)
    assert isinstance(result, Drop) and result.reason == "bad_tests"


@isolating
@pytest.mark.parametrize(
    "layout",
    [
        "Here it is:\n\n```\n{}\n```\n\nIt adds.",
        '```python title="add.py"\n{}\n```',
        "~~~python\n{}\n~~~",
        "```python\n{}\n```\n\nExample:\n\n```python\nprint(add(1, 2))\n```",
        "```python\ndef add(a, b):\n    return -999\n```\nFinal:\n```\n{}\n```",
        "```python\ndef add(a, b): ...\n```\nSo:\n```{{python}}\n{}",
    ],
)
def test_a_program_scores_the_same_in_any_layout(layout: str) -> None:
    program = "def add(a, b):\n    return a + b"
    responses = [program, layout.format(program), layout.format(program.replace("+", "-"))]
    tests = "assert add(1, 2) == 3\nassert add(-1, 1) == 0"
    assert scores(code(), tests, *responses) == [1.0, 1.0, 0.0]


def test_code_without_a_sandbox_needs_plain_words(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("wrpo.sandbox.sandbox.shutil.which", _only_prlimit)
    with pytest.raises(SandboxError, match="none-i-accept-the-risk"):
        code().load()
    accepted = code(sandbox="none-i-accept-the-risk")
    assert scores(accepted, ASSERTS, RIGHT, ONLY_ZERO) == [1.0, 0.0]


def _only_prlimit(name: str) -> str | None:
    return name if name == "prlimit" else None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference_answer", "response", "expected"),
    [
        ("$\\frac{1}{2}$", "So it is $0.5$.", 1.0),
        ("\\frac{1}{2}", "So it is 0.5", 1.0),
        ("42", "The answer is \\boxed{42}.", 1.0),
        ("42", "The answer is \\boxed{41}.", 0.0),
        ("$x + 1$", "$1 + x$", 1.0),
        ("42", "I do not know.", 0.0),
        ("1", "$9^{9^{9^{9}}}$", 0.0),
        ("1", "$" + "(" * 2000 + "1" + ")" * 2000 + "$", 0.0),
    ],
)
def test_math_compares_values_and_never_stalls(
    reference_answer: str, response: str, expected: float
) -> None:
    pytest.importorskip("math_verify")
    assert scores(MathReward(type="math", timeout_s=1), reference_answer, response) == [expected]


def test_math_refuses_what_is_no_formula() -> None:
    pytest.importorskip("math_verify")
    [result] = scores(MathReward(type="math"), "", "1")
    assert isinstance(result, Drop) and result.reason == "bad_reference_answer"


def test_math_without_its_package_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr("wrpo.rewards.math.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"wrpo\[eval\]"):
        MathReward(type="math").load()


def test_instructions_count_together_or_by_share() -> None:
    reference_answer = json.dumps([{"lowercase": True}, {"min_words": 3}])
    assert scores(InstructionReward(type="instruction"), reference_answer, "a b c", "a b") == [
        1.0,
        0.0,
    ]
    shares = InstructionReward(type="instruction", partial=True)
    assert scores(shares, reference_answer, "a b c", "a b", "A") == [1.0, 0.5, 0.0]


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("check", [{"lowercase": True}, {"max_words": 3}, {"no_commas": True}])
def test_an_empty_response_passes_no_instruction(check: dict[str, object], partial: bool) -> None:
    settings = InstructionReward(type="instruction", partial=partial)
    reference_answer = json.dumps([check])
    assert scores(settings, reference_answer, "", " \n", "a") == [0.0, 0.0, 1.0]
    assert settings.self_check(reference_answer) == SelfCheck(None, ("",))


@pytest.mark.parametrize(
    "reference_answer",
    ["", "[]", "{}", '[{"words": 1}]', '[{"min_words": "1"}]', '[{"min_words": true}]', NESTED],
)
def test_unreadable_instructions_are_refused(reference_answer: str) -> None:
    [result] = scores(InstructionReward(type="instruction"), reference_answer, "a")
    assert isinstance(result, Drop) and result.reason == "bad_checks"


@pytest.mark.parametrize("kind", ["code", "math", "instruction"])
def test_a_prompt_without_gold_answer_is_refused(kind: str) -> None:
    settings = {
        "code": CodeReward(type="code", sandbox="none-i-accept-the-risk"),
        "math": MathReward(type="math"),
        "instruction": InstructionReward(type="instruction"),
    }[kind]
    [result] = scores(settings, None, "a")
    assert isinstance(result, Drop) and result.reason == "no_reference_answer"


def test_recipes_name_these_rewards_and_workers_are_only_speed(write_recipe) -> None:
    def key(**changes: object) -> dict[str, object]:
        rewards = {
            "tests": {"type": "code", **changes},
            "maths": {"type": "math"},
            "form": {"type": "instruction", "partial": True},
        }
        recipe = load_recipe(write_recipe(rewards=rewards))
        return Pipeline(recipe).key("score/one")

    assert key() == key(engine={"workers": 9})
    assert key() != key(partial=True)
    with pytest.raises(RecipeError, match=r"rewards\.tests\.sandbox"):
        key(sandbox="none")

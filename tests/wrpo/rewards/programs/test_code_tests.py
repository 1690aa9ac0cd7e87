"""Tests of programs: layouts, proof that assertions ran, and what a program cannot deceive."""

import base64
import json
import pickle
import zlib
from typing import Any

import pytest

from wrpo.pipeline.tables import Drop
from wrpo.rewards import Candidate
from wrpo.rewards.base import SelfCheck
from wrpo.rewards.code import CodeReward, CodeTests
from wrpo.rewards.programs.assertions import read_test_code

ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return 0\n"
SUM = "a, b = map(int, input().split())\nprint(a + b)\n"
METHOD = (
    "class Solution:\n    def add(self, a: int, b: int, c: List[int] = ()) -> int:\n"
    "        return pow(a + b, 1, 10**9)\n"
)
ASSERTS = "assert add(1, 2) == 3\nassert add(5, 7) == 12"


@pytest.fixture(scope="module")
def tests() -> CodeTests:
    """Without walls, which costs less: all programs here are our own."""
    settings = CodeReward(type="code", sandbox="none-i-accept-the-risk", cpu_s=5, wall_s=30.0)
    return settings.load()


def score(tests: CodeTests, program: str, given: str | dict[str, Any] | list[Any]) -> float | Drop:
    text = given if isinstance(given, str) else json.dumps(given)
    [value] = tests.score([Candidate([], f"```python\n{program}\n```", text)])
    return value


def packed(tests: list[dict[str, str]]) -> str:
    """As LiveCodeBench packs its private tests."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


STDIN = [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]
FUNCTIONAL = [{"input": "1\n2", "output": "3", "testtype": "functional"}]
LAYOUTS: dict[str, tuple[str, Any]] = {
    "code": (ADD, ASSERTS),
    "list of codes": (ADD, ASSERTS.split("\n")),
    "inputs and outputs": (
        SUM,
        [{"stdin": "1 2", "stdout": "3"}, {"stdin": "5 7", "stdout": "12"}],
    ),
    "HumanEval": (
        ADD,
        {
            "test": "METADATA = {}\n\n\ndef check(candidate):\n"
            "    assert candidate(1, 2) == 3\n    assert True",
            "entry_point": "add",
            "prompt": "def add(a, b):\n    '''Adds.'''\n",
            "canonical_solution": "    return a + b\n",
        },
    ),
    "HumanEval+": (
        ADD,
        {
            "test": "def assertion(out, exp, atol):\n    assert out == exp\n\n"
            "def check(candidate):\n    for i, (inp, exp) in enumerate(zip([[1, 2]], [3])):\n"
            "        assertion(candidate(*inp), exp, 0)\n",
            "entry_point": "add",
        },
    ),
    "MBPP": (
        ADD,
        {
            "test_list": ASSERTS.split("\n"),
            "test_setup_code": "import math",
            "challenge_test_list": ["assert add(math.inf, 1) == math.inf"],
            "code": ADD.replace("\n", "\r\n"),
        },
    ),
    "APPS": (SUM, {"inputs": ["1 2\n", ["5 7", ""]], "outputs": ["3\n", ["12"]]}),
    "APPS, columns": (
        SUM,
        {
            "input_output": json.dumps({"inputs": ["1 2\n"], "outputs": ["3\n"]}),
            "solutions": json.dumps(["print 3"]),
        },
    ),
    "APPS, calls": (ADD, {"inputs": [[1, 2], [5, 7]], "outputs": [3, [12]], "fn_name": "add"}),
    "APPS, methods": (METHOD, {"inputs": [[1, 2]], "outputs": [3], "fn_name": "add"}),
    "LiveCodeBench, items": (SUM, STDIN),
    "LiveCodeBench": (
        SUM,
        {"public_test_cases": json.dumps(STDIN), "private_test_cases": packed(STDIN)},
    ),
    "LiveCodeBench, calls": (
        METHOD,
        {
            "public_test_cases": json.dumps(FUNCTIONAL),
            "private_test_cases": packed(FUNCTIONAL),
            "metadata": json.dumps({"func_name": "add"}),
        },
    ),
    "items with metadata": (METHOD, [FUNCTIONAL[0] | {"metadata": {"func_name": "add"}}]),
    "unittest": (
        ADD,
        "import unittest\nclass TestAdd(unittest.TestCase):\n    def test_it(self):\n"
        "        self.assertEqual(add(1, 2), 3)\nif __name__ == '__main__':\n    unittest.main()\n",
    ),
    "test functions": (
        ADD,
        "from solution import add\ndef test_add():\n    assert add(1, 2) == 3\n",
    ),
    "in a main block": (ADD, f"if __name__ == '__main__':\n    {ASSERTS.splitlines()[0]}\n"),
    "raise": (ADD, "if add(1, 2) != 3:\n    raise ValueError('wrong')"),
    "with": (
        ADD,
        f"import unittest\nraises = unittest.TestCase().assertRaises\n{ASSERTS}\n"
        "with raises(TypeError): add()",
    ),
    "exception": (
        "def add(a, b):\n    raise ValueError\n",
        "try:\n    add(1, 2)\n    assert False\nexcept ValueError:\n    pass",
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_tells_right_from_wrong_programs(tests: CodeTests, layout: str) -> None:
    right, given = LAYOUTS[layout]
    wrong = right.replace("a + b", "a - b").replace("raise ValueError", "return 0")
    assert [score(tests, right, given), score(tests, wrong, given)] == [1.0, 0.0]
    text = given if isinstance(given, str) else json.dumps(given)
    known = CodeReward(type="code").self_check(text)
    own = layout in ("HumanEval", "MBPP")
    assert (known.right is not None, known.wrong) == (own, ("", "pass"))
    tried = [known.right or right, *known.wrong]
    assert tests.score([Candidate([], program, text) for program in tried]) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("", "empty"),
        ("x = 1", "no assertion"),
        ("add(1, 2)", "no assertion"),
        ("assert True", "no assertion"),
        ("# assert add(1, 2) == 3", "no assertion"),
        ("def check(candidate):\n    assert candidate(1, 2) == 3", "check; give its entry_point"),
        ("def it():\n    assert add(1, 2) == 3\ndef so():\n    it()", "nothing calls it"),
        ("async def test_it():\n    assert add(1, 2) == 3", "nothing calls test_it"),
        ("class TestIt:\n    def test_it(self):\n        assert add(1, 2) == 3", "calls TestIt"),
        ("def test_it(fixture):\n    assert add(1, 2) == 3", "nothing calls test_it"),
        ("cases = []\nfor a, b, c in cases:\n    assert add(a, b) == c", "asserted nothing"),
        ("def check(cases):\n    for c in cases: assert c\ncheck([])", "asserted nothing"),
        ("import unittest\nclass T(unittest.TestCase):\n    def it(self): assert add(1, 2) == 3",
         "asserted nothing"),
        ("x = 1\nassert x == 1", "without content"),
        ("assert add(1, 2) ==", "no Python code"),
        ("import no_such_module\nassert add(1, 2) == 3", "no_such_module"),
        ("[]", "list without tests"),
        ([1], "no test"),
        ([{"stdin": "", "stdout": ""}], "without content"),
        ([{"stdin": "1"}], "no test"),
        ({}, "no columns"),
        ({"question": "?"}, "question"),
        ({"test": "assert 1", "entry_point": "a b"}, "entry_point"),
        ({"test": None, "entry_point": "add"}, "test is no text"),
        ({"test_list": []}, "test_list is empty"),
        ({"test_list": [1]}, "test_list"),
        ({"inputs": [], "outputs": []}, "0 inputs"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs and 0 outputs"),
        ({"inputs": ["1"], "outputs": ["1"], "fn_name": "add"}, "arguments"),
        ({"public_test_cases": "["}, "neither JSON nor packed"),
        ({"public_test_cases": FUNCTIONAL}, "func_name"),
        ({"private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(print))).decode()},
         "builtins.print"),
        ([STDIN[0] | {"testtype": "other"}], "testtype 'other'"),
    ],
)  # fmt: skip
def test_tests_that_decide_nothing_are_refused(tests: CodeTests, given: Any, reason: str) -> None:
    found = score(tests, ADD, given)
    assert isinstance(found, Drop) and found.reason == "bad_tests"
    assert reason in found.detail
    text = given if isinstance(given, str) else json.dumps(given)
    assert CodeReward(type="code").self_check(text) == SelfCheck(None, ("", "pass"))


@pytest.mark.parametrize("given", [ASSERTS, {"inputs": [[1, 2]], "outputs": [3], "fn_name": "add"}])
@pytest.mark.parametrize(
    "program",
    [
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "raise SystemExit",
        "import atexit, os\natexit.register(os._exit, 0)",
        "import sys, os\nsys.excepthook = lambda *a: os._exit(0)",
        "class A:\n    def __eq__(self, other): return True\ndef add(a, b): return A()",
        "class I(int):\n    def __eq__(self, other): return True\ndef add(a, b): return I(0)",
        "import builtins\nbuiltins.AssertionError = SystemExit\ndef add(a, b): return 0",
        "import os\nos.write = os._exit = lambda *a: None\ndef add(a, b): return 0",
        "import os\ndef add(a, b): os._exit(0)",
        "def add(a, b): return 0\n'''",
        "def add(a, b): return 0\nif False: pass\nelse:",
        "import unittest\nprint('ok')",
        "import builtins\nbuiltins.zip = lambda *a: []\ndef add(a, b): return zip([a], [b])[0]",
    ],
)
def test_no_such_program_passes(tests: CodeTests, program: str, given: Any) -> None:
    assert score(tests, program, given) == 0.0


@pytest.mark.parametrize(
    "more",
    [
        "if __name__ == '__main__':\n    print(add(*map(int, input().split())))",
        "import atexit\natexit.register(print, 'bye')",
        "import threading, time\nthreading.Thread(target=lambda: time.sleep(60)).start()",
        "import sys, io\nsys.stdout = io.StringIO()",
        "import sys\nsys.setrecursionlimit(10**6)",
        "print('x' * 10**6)",
        "import sys\nsys.stdout.close()",
        "import os\nos.close(1)",
    ],
)
def test_what_else_a_right_program_does_costs_it_nothing(tests: CodeTests, more: str) -> None:
    assert score(tests, f"{ADD}\n{more}", ASSERTS) == 1.0
    assert score(tests, f"{WRONG}\n{more}", ASSERTS) == 0.0


def test_assertions_are_counted_where_they_stand() -> None:
    source = (
        "def f(x): return x\n"
        "é = 'ü'; assert f(é) == 'ü', 'ä'\n"
        "assert (\n    f(1)\n    == 1\n)\n"
        "assert (y := f(2)) == 2 and (z for z in [1])\n"
        "assert 3 == f(3)\n"
        "assert [1, -2] == f([1, -2])\n"
        "try:\n\tf(1)[0]\n\traise ValueError\nexcept TypeError:\n\tassert f(4) == 4\n"
        "try: f(1)[0]; assert False\nexcept TypeError: pass\n"
        "if f(5) != 5: raise ValueError\n"
        "elif f(6) != 6: raise ValueError\n"
    )
    code = read_test_code(source.replace("\n", "\r\n"))
    seen: list[object] = []

    def ran(value: object) -> object:
        seen.append(value)
        return value

    exec(compile(code.text, "tests", "exec"), {code.ran: ran, code.plain: lambda value: value})
    assert len(seen) == 10

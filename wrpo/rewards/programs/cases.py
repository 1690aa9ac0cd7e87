"""Single tests of a program, each run in the sandbox on its own."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from wrpo.rewards.programs.assertions import TestCode
from wrpo.rewards.programs.names import read_code
from wrpo.sandbox import Sandbox

ASSERTED_NOTHING = "asserted nothing"
"""What became of a program whose tests ran to their end without an assertion."""


class Case(Protocol):
    """One test."""

    @property
    def wanted(self) -> Set[str]:
        """The names that it takes from the program."""

    def problem(self, sandbox: Sandbox, program: str) -> str | None:
        """None where the program passes, else in a word what happened.

        Raises:
            SandboxError: the program was not started.
        """


@dataclass(frozen=True, slots=True)
class Assertions:
    """Code with assertions that runs after the program, with the names of the program.

    `names` are those that the code takes from the program, beside the ones that it uses itself.
    """

    code: TestCode
    names: frozenset[str] = frozenset()

    @property
    def wanted(self) -> Set[str]:
        code = read_code(self.code.text, limit=None)
        used = code.needs - {self.code.ran, self.code.plain} if code else frozenset()
        return used | self.names | self.code.imported

    def problem(self, sandbox: Sandbox, program: str) -> str | None:
        asserted, problem = _driven(
            sandbox,
            {
                "program": program,
                "tests": self.code.text,
                "ran": self.code.ran,
                "plain": self.code.plain,
                "functions": self.code.functions,
                "classes": self.code.classes,
            },
        )
        return problem or (None if asserted else ASSERTED_NOTHING)


@dataclass(frozen=True, slots=True)
class Printed:
    """What the program prints for an input; space at the ends of lines and of the text is free."""

    stdin: str
    stdout: str
    wanted: Set[str] = frozenset()

    def problem(self, sandbox: Sandbox, program: str) -> str | None:
        outcome = sandbox.run(program, self.stdin)
        if outcome.status != "ok":
            return outcome.status
        return None if _lines(outcome.stdout) == _lines(self.stdout) else "wrong"


@dataclass(frozen=True, slots=True)
class Call:
    """The value of a function, or of a method of a class `Solution`, for some arguments.

    The value leaves the sandbox as JSON and is compared outside of it, numbers within 1e-6.
    """

    function: str
    arguments: list[Any]
    values: list[Any]
    """Each of them is right."""

    @property
    def wanted(self) -> Set[str]:
        return {self.function, "Solution"}

    def problem(self, sandbox: Sandbox, program: str) -> str | None:
        order = {"program": program, "function": self.function, "arguments": self.arguments}
        value, problem = _driven(sandbox, order)
        if problem is not None:
            return problem
        return None if any(_same(value, right) for right in self.values) else "wrong"


def _driven(sandbox: Sandbox, order: dict[str, Any]) -> tuple[Any, str | None]:
    """What the driver proved, and what happened where it did not."""
    word = secrets.token_hex(16)
    outcome = sandbox.run(_driver(), json.dumps(order | {"word": word}))
    if outcome.status != "ok":
        return None, outcome.status
    for line in outcome.stdout.split("\n"):
        if line.startswith(f"{word} "):
            return json.loads(line.removeprefix(word)), None
    return None, "left early"


@cache
def _driver() -> str:
    return Path(__file__).with_name("driver.py").read_text(encoding="utf-8")


def _lines(text: str) -> list[str]:
    """Lines without space at their ends, and without empty lines at the end of the text."""
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _same(value: object, right: object) -> bool:
    if isinstance(value, list) and isinstance(right, list):
        return len(value) == len(right) and all(map(_same, value, right))
    if isinstance(value, dict) and isinstance(right, dict):
        return value.keys() == right.keys() and all(_same(value[key], right[key]) for key in right)
    if isinstance(value, float) or isinstance(right, float):
        numbers = isinstance(value, int | float) and isinstance(right, int | float)
        return numbers and math.isclose(value, right, rel_tol=1e-6, abs_tol=1e-6)  # type: ignore[arg-type]
    return value == right

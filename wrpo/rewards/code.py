"""Unit tests for responses that are programs, run in the sandbox."""

from __future__ import annotations

import json
import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from wrpo.pipeline.tables import Drop
from wrpo.rewards.base import Candidate, RewardSettings
from wrpo.rewards.programs.extract import extract_program
from wrpo.rewards.programs.names import read_code
from wrpo.sandbox import Limits, Sandbox, failure
from wrpo.settings import Section

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline

logger = logging.getLogger(__name__)


class CodeEngine(Section):
    """How fast programs are tested."""

    workers: int = Field(4, ge=1, description="Programs that run at the same time.")


class CodeReward(RewardSettings):
    """Unit tests: the reference answer holds assertions, or inputs and outputs, as code or JSON."""

    type: Literal["code"]
    partial: bool = Field(False, description="The share of passed tests; else all or nothing.")
    cpu_s: int = Field(5, ge=1, description="CPU time of one test, in seconds.")
    wall_s: float = Field(15.0, gt=0.0, description="Time of one test, in seconds.")
    memory_mib: int = Field(1024, ge=64, description="Address space of a program.")
    sandbox: Literal["bubblewrap", "none-i-accept-the-risk"] = Field(
        "bubblewrap",
        description="none-i-accept-the-risk: responses run with the rights of the user, "
        "with limits.",
    )
    engine: CodeEngine = Field(default_factory=CodeEngine, description="Speed only.")

    def load(self, pipeline: Pipeline | None = None) -> CodeTests:
        """The tests, and the sandbox in which they run."""
        return CodeTests(self)

    def program_walls(self) -> str:
        """The sandbox."""
        return self.sandbox


@dataclass(frozen=True, slots=True)
class Case:
    """One test: code that runs after the program, or what the program prints for an input."""

    code: str | None = None
    stdin: str = ""
    stdout: str = ""


class CodeTests:
    """The share of tests that a response's program passes, or 1.0 only where it passes all.

    The reference answer is Python code with assertions, a JSON list of such codes, or a JSON list
    of {"stdin": ..., "stdout": ...}. Test code runs in the process of the response: it tells right
    from wrong programs, not from programs written to deceive it.
    """

    def __init__(self, settings: CodeReward) -> None:
        limits = Limits(
            cpu_s=settings.cpu_s, wall_s=settings.wall_s, memory_mib=settings.memory_mib
        )
        self._sandbox = Sandbox(limits, isolated=settings.sandbox == "bubblewrap")
        self._partial = settings.partial
        self._workers = settings.engine.workers

    def score(self, candidates: list[Candidate]) -> list[float | Drop]:
        """One value in [0, 1] per candidate; one without readable tests is refused."""
        with ThreadPoolExecutor(self._workers) as pool:
            judged = list(pool.map(self._judge, candidates))
        reasons = Counter(reason for _, reason in judged)
        logger.info("code: %s", ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items())))
        return [value for value, _ in judged]

    def _judge(self, candidate: Candidate) -> tuple[float | Drop, str]:
        """The value, and in a word why."""
        if candidate.reference_answer is None:
            detail = "set prompts.datasets.NAME.response to the column of the tests"
            return Drop("no_reference_answer", detail), "without tests"
        cases = read_cases(candidate.reference_answer)
        if isinstance(cases, Drop):
            return cases, "with bad tests"
        program = extract_program(candidate.response, _names(cases))
        if not program.strip():
            return 0.0, "without program"
        passed, reason = 0, "passed"
        for case in cases:
            problem = self._problem(program, case)
            passed += problem is None
            if problem is not None:
                reason = problem
                if not self._partial:
                    return 0.0, reason
        return passed / len(cases), reason

    def _problem(self, program: str, case: Case) -> str | None:
        if case.code is not None:
            return failure(self._sandbox, program, case.code)
        outcome = self._sandbox.run(program, case.stdin)
        if outcome.status != "ok":
            return outcome.status
        return None if _lines(outcome.stdout) == _lines(case.stdout) else "wrong"


def read_cases(reference_answer: str) -> list[Case] | Drop:
    """The tests of a reference answer."""
    try:
        value = json.loads(reference_answer)
    except ValueError:
        value = reference_answer
    except RecursionError:
        value = []
    if not isinstance(value, list):
        value = [reference_answer]
    cases = [case for item in value if (case := _case(item)) is not None]
    if not cases or len(cases) < len(value):
        return Drop(
            "bad_tests", 'expected code, or a JSON list of codes or {"stdin": ..., "stdout": ...}'
        )
    return cases


def _names(cases: list[Case]) -> frozenset[str]:
    """The names that the tests take from the program."""
    codes = (read_code(case.code, limit=None) for case in cases if case.code is not None)
    return frozenset().union(*(code.needs for code in codes if code is not None))


def _case(item: object) -> Case | None:
    if isinstance(item, str):
        return Case(code=item) if item.strip() else None
    if not isinstance(item, dict) or set(item) != {"stdin", "stdout"}:
        return None
    if not all(isinstance(value, str) for value in item.values()):
        return None
    return Case(stdin=item["stdin"], stdout=item["stdout"])


def _lines(text: str) -> list[str]:
    """Lines without space at their ends, and without empty lines at the end of the text."""
    return [line.rstrip() for line in text.rstrip().splitlines()]

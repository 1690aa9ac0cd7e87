"""Unit tests for responses that are programs, run in the sandbox."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from wrpo.pipeline.tables import Drop
from wrpo.rewards.base import Candidate, RewardSettings, SelfCheck
from wrpo.rewards.programs.cases import ASSERTED_NOTHING, Assertions, Case
from wrpo.rewards.programs.extract import extract_program
from wrpo.rewards.programs.layouts import read_tests
from wrpo.sandbox import Limits, Sandbox
from wrpo.settings import Section

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline

logger = logging.getLogger(__name__)


_FIND_MODULES = """
import json
from importlib.util import find_spec
print(json.dumps({{name: find_spec(name) is not None for name in {}}}))
"""


class CodeEngine(Section):
    """How fast programs are tested."""

    workers: int = Field(4, ge=1, description="Programs that run at the same time.")


class CodeReward(RewardSettings):
    """Unit tests of programs, in the layouts of HumanEval, MBPP, APPS, LiveCodeBench, or plain."""

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

    def self_check(self, reference_answer: str) -> SelfCheck:
        """The dataset's own solution, if it has one; programs without content are wrong."""
        try:
            solution = read_tests(reference_answer).solution
        except (ValueError, RecursionError):
            solution = None
        # Where each test counts, those that expect no output are passed by a program without any.
        return SelfCheck(solution, ("",) if self.partial else ("", "pass"))

    def program_walls(self) -> str:
        """The sandbox."""
        return self.sandbox


@dataclass(slots=True)
class _Prepared:
    """The tests of a prompt, read once for all its responses."""

    cases: list[Case]
    wanted: frozenset[str] = field(init=False)
    empty_passes: bool | None = None

    def __post_init__(self) -> None:
        self.wanted = frozenset().union(*(case.wanted for case in self.cases))


class CodeTests:
    """The share of tests that a response's program passes, or 1.0 only where it passes all.

    `programs/extract.py` says which text is the program, `programs/layouts.py` how tests are laid
    out. Tests that assert nothing, or that an empty program passes, are refused. Inputs and
    outputs, and the values of calls, are compared outside the process of the program; assertions
    run in it, which tells right from wrong programs, not from all that are written to deceive.
    """

    def __init__(self, settings: CodeReward) -> None:
        limits = Limits(
            cpu_s=settings.cpu_s, wall_s=settings.wall_s, memory_mib=settings.memory_mib
        )
        self._sandbox = Sandbox(limits, isolated=settings.sandbox == "bubblewrap")
        self._partial = settings.partial
        self._workers = settings.engine.workers
        self._has_module: dict[str, bool] = {}

    def score(self, candidates: list[Candidate]) -> list[float | Drop]:
        """One value in [0, 1] per candidate; one without usable tests is refused."""
        answers = dict.fromkeys(candidate.reference_answer for candidate in candidates)
        prepared = {answer: self._prepare(answer) for answer in answers}
        tests = [prepared[candidate.reference_answer] for candidate in candidates]
        programs = [
            "" if isinstance(test, Drop) else extract_program(candidate.response, test.wanted)
            for test, candidate in zip(tests, candidates, strict=True)
        ]
        with ThreadPoolExecutor(self._workers) as pool:
            judged = list(pool.map(self._judge, tests, programs))
        reasons = Counter(reason for _, reason in judged)
        logger.info("code: %s", ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items())))
        return [value for value, _ in judged]

    def _prepare(self, reference_answer: str | None) -> _Prepared | Drop:
        if reference_answer is None:
            detail = "set prompts.datasets.NAME.reference_answer to the column of the tests"
            return Drop("no_reference_answer", detail)
        try:
            tests = read_tests(reference_answer)
        except (ValueError, RecursionError) as error:
            return Drop("bad_tests", str(error))
        missing = [name for case in tests.cases for name in self._missing_modules(case)]
        if missing:
            names = ", ".join(sorted(set(missing)))
            return Drop("bad_tests", f"the tests import {names}, which the sandbox does not have")
        return _Prepared(tests.cases)

    def _missing_modules(self, case: Case) -> list[str]:
        """Modules that the tests import and the Python of the sandbox lacks."""
        if not isinstance(case, Assertions):
            return []
        names = case.code.modules - {"solution"} - sys.stdlib_module_names
        if unknown := sorted(names - self._has_module.keys()):
            outcome = self._sandbox.run(_FIND_MODULES.format(unknown))
            found = json.loads(outcome.stdout) if outcome.status == "ok" else {}
            self._has_module |= dict.fromkeys(unknown, False) | found
        return [name for name in names if not self._has_module.get(name, False)]

    def _judge(self, tests: _Prepared | Drop, program: str) -> tuple[float | Drop, str]:
        """The value, and in a word why."""
        if isinstance(tests, Drop):
            return tests, f"with {tests.reason}"
        if not program.strip():
            return 0.0, "without program"
        value, reason = self._value(tests.cases, program, partial=self._partial)
        if value == 1.0:
            if tests.empty_passes is None:
                tests.empty_passes = self._value(tests.cases, "")[0] == 1.0
            if tests.empty_passes:
                return Drop("bad_tests", "a program without content passes them"), "with bad_tests"
        return value, reason

    def _value(
        self, cases: list[Case], program: str, *, partial: bool = False
    ) -> tuple[float | Drop, str]:
        passed, reason = 0, "passed"
        for case in cases:
            problem = case.problem(self._sandbox, program)
            if problem == ASSERTED_NOTHING:
                return Drop("bad_tests", "they ran to their end and asserted nothing"), problem
            passed += problem is None
            if problem is not None:
                reason = problem
                if not partial:
                    return 0.0, reason
        return passed / len(cases), reason

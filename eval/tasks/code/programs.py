"""Takes programs out of answers, runs them with their tests in the sandbox, counts those that pass.

lm-eval's own code tasks load their metric from the hub and run programs in its own process.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import comb
from typing import Any

from wrpo.rewards.programs.assertions import read_test_code
from wrpo.rewards.programs.cases import Assertions
from wrpo.sandbox import Limits, Sandbox

SANDBOX_VARIABLE = "WRPO_EVAL_SANDBOX"
"""Environment variable with the value of `eval.sandbox`."""
ACCEPTED = "none-i-accept-the-risk"

LIMITS = Limits(cpu_s=10, wall_s=20.0, memory_mib=1024)
WORKERS = min(8, os.cpu_count() or 1)
KS = (1, 10, 100)


def pass_at_k(total: int, passed: int, k: int) -> float:
    """Chance that one of k programs, drawn from `total` of which `passed` pass, passes.

    The unbiased estimate of Chen et al. 2021, section 2.1: 1 - C(n - c, k) / C(n, k).
    """
    if not 1 <= k <= total or not 0 <= passed <= total:
        raise ValueError(f"pass@{k} of {passed} among {total}")
    return 1.0 - comb(total - passed, k) / comb(total, k)


def try_sandbox(documents: Any) -> Any:
    """The documents as they are; refuses before a model is loaded where programs cannot run.

    Raises:
        SandboxError: this machine cannot run untrusted programs safely.
    """
    sandbox()
    return documents


def sandbox() -> Sandbox:
    """The sandbox that the recipe, or the environment variable, asks for."""
    return _sandbox(accepted=os.environ.get(SANDBOX_VARIABLE) == ACCEPTED)


@cache
def _sandbox(*, accepted: bool) -> Sandbox:
    return Sandbox(LIMITS, isolated=not accepted, field="eval.sandbox")


def completions(answers: list[list[str]], documents: list[dict[str, Any]]) -> list[list[str]]:
    """HumanEval: the answer goes on behind the prompt, up to the fence that closes the block."""
    return [
        [str(document["prompt"]) + answer.partition("```")[0] for answer in group]
        for group, document in zip(answers, documents, strict=True)
    ]


def opened_blocks(answers: list[list[str]], documents: list[dict[str, Any]]) -> list[list[str]]:
    """The answer goes on in a block that the prompt has opened, up to the closing fence."""
    return [[answer.partition("```")[0] for answer in group] for group in answers]


def published_shots(documents: Any) -> list[dict[str, Any]]:
    """MBPP: the three problems that its authors use as examples, in their order."""
    shots = [row for row in documents if row["task_id"] in (2, 3, 4)]
    return sorted(shots, key=lambda row: int(row["task_id"]))


def humaneval(document: dict[str, Any], programs: list[list[str]]) -> dict[str, float]:
    """pass@k of the programs of one HumanEval problem."""
    return passes(programs[0], f"{document['test']}\ncheck({document['entry_point']})")


def mbpp(document: dict[str, Any], programs: list[list[str]]) -> dict[str, float]:
    """pass@k of the programs of one MBPP problem, on its published assertions."""
    setup = document.get("test_imports") or [document.get("test_setup_code") or ""]
    return passes(programs[0], "\n".join([*setup, *document["test_list"]]))


def passes(programs: list[str], test: str) -> dict[str, float]:
    """pass@k for every k of 1, 10, 100 that the number of programs allows.

    Raises:
        ValueError: the test asserts nothing.
    """
    case = Assertions(read_test_code(test))
    with ThreadPoolExecutor(WORKERS) as pool:
        problems = list(pool.map(lambda program: case.problem(sandbox(), program), programs))
    passed = problems.count(None)
    return {f"pass@{k}": pass_at_k(len(programs), passed, k) for k in KS if k <= len(programs)}

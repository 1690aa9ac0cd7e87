"""HumanEval and MBPP in the sandbox, on documents of the hub's columns."""

from __future__ import annotations

import ast
import itertools
import json
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from eval.tasks.code.programs import ACCEPTED, SANDBOX_VARIABLE, pass_at_k
from tests.eval.tasks.local import local_task, prompts, scores
from tests.wrpo.sandbox.test_sandbox import isolating
from wrpo.errors import SandboxError

SHIPPED = Path(lm_eval.tasks.__file__).parent
HUMANEVAL = [
    {
        "task_id": "HumanEval/0",
        "prompt": 'def add(a: int, b: int) -> int:\n    """Sum."""\n',
        "entry_point": "add",
        "canonical_solution": "    return a + b\n",
        "test": "def check(candidate):\n    assert candidate(2, 3) == 5\n",
    }
]
MBPP = [
    {
        "task_id": 11,
        "text": "Write a function to double a number.",
        "prompt": "Write a function to double a number.",
        "code": "def double(x):\n    return 2 * x",
        "test_list": ["assert double(1) == 2", "assert double(2) == 4", "assert double(0) == 0"],
        "test_setup_code": "",
        "test_imports": ["import math"],
    }
]


@pytest.mark.parametrize("total", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_draws_with_a_passing_program(total: int) -> None:
    for passed in range(total + 1):
        programs = [True] * passed + [False] * (total - passed)
        for k in range(1, total + 1):
            draws = list(itertools.combinations(programs, k))
            assert pass_at_k(total, passed, k) == pytest.approx(
                sum(map(any, draws)) / len(draws), abs=1e-12
            )


def test_pass_at_k_of_more_programs_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="pass@3 of 1 among 2"):
        pass_at_k(2, 1, 3)


@isolating
def test_humaneval_runs_prompt_and_answer_up_to_the_fence(tmp_path: Path) -> None:
    task = local_task(tmp_path, "humaneval_instruct_sandbox", HUMANEVAL)
    right = "    return a + b\n```\nThis adds."
    assert scores(task, [[right]]) == {"create_test": [{"pass@1": 1.0}]}
    for wrong in ("    return a - b\n```", "    return a +", "    exit()\n```"):
        assert scores(task, [[wrong]]) == {"create_test": [{"pass@1": 0.0}]}


@isolating
def test_several_samples_give_pass_at_1_and_10(tmp_path: Path) -> None:
    task = local_task(tmp_path, "humaneval_instruct_sandbox_64", HUMANEVAL)
    (found,) = scores(task, [["    return a + b\n"] * 3 + ["    return 0\n"] * 9])["create_test"]
    assert found == pytest.approx({"pass@1": 0.25, "pass@10": 1.0})


@isolating
def test_the_prompt_of_evalplus_begins_the_answer(tmp_path: Path) -> None:
    task = local_task(tmp_path, "humaneval_evalplus", HUMANEVAL)
    turns, generation_prompt = prompts(task)[0]
    assert not generation_prompt
    assert turns[0]["content"].endswith('"""Sum."""\n```\n')
    assert turns[1]["content"].endswith("passes corresponding tests:\n```python\n")
    answer = HUMANEVAL[0]["prompt"] + HUMANEVAL[0]["canonical_solution"]
    assert scores(task, [[answer]]) == {"program": [{"pass@1": 1.0}]}


@isolating
@pytest.mark.parametrize("name", ["mbpp_evalplus", "mbpp_instruct_sandbox"])
def test_mbpp_runs_all_assertions(tmp_path: Path, name: str) -> None:
    fields = {} if name == "mbpp_evalplus" else {"num_fewshot": 0, "fewshot_split": "test"}
    task = local_task(tmp_path, name, MBPP, **fields)
    for answer, value in ((MBPP[0]["code"], 1.0), ("def double(x):\n    return x + 1", 0.0)):
        ((found,),) = scores(task, [[f"{answer}\n```\nDone."]]).values()
        assert found == {"pass@1": value}


@isolating
def test_a_machine_without_sandbox_is_refused_when_the_task_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm_evals_copy = local_task(tmp_path, "humaneval_evalplus", HUMANEVAL).config.process_docs
    lm_evals_copy.__globals__["_sandbox"].cache_clear()
    monkeypatch.setattr("wrpo.sandbox.sandbox.shutil.which", _only_prlimit)
    with pytest.raises(SandboxError, match=r"bwrap.* not on the PATH.*eval\.sandbox"):
        local_task(tmp_path, "humaneval_evalplus", HUMANEVAL)
    monkeypatch.setenv(SANDBOX_VARIABLE, ACCEPTED)
    task = local_task(tmp_path, "humaneval_evalplus", HUMANEVAL)
    answer = HUMANEVAL[0]["prompt"] + HUMANEVAL[0]["canonical_solution"]
    assert scores(task, [[answer]]) == {"program": [{"pass@1": 1.0}]}


def _only_prlimit(name: str) -> str | None:
    return name if name == "prlimit" else None


@isolating
@pytest.mark.parametrize(
    ("own", "shipped"),
    [
        ("humaneval_instruct_sandbox", "humaneval/humaneval_instruct.yaml"),
        ("humaneval_instruct_sandbox_64", "humaneval/humaneval_64_instruct.yaml"),
        ("mbpp_instruct_sandbox", "mbpp/mbpp_instruct.yaml"),
    ],
)
def test_prompts_and_decoding_are_those_of_lm_eval(tmp_path: Path, own: str, shipped: str) -> None:
    shots = published_shots()
    rows = HUMANEVAL if own.startswith("humaneval") else MBPP
    fields: dict[str, Any] = {}
    if rows is MBPP:
        data = tmp_path / "shots.jsonl"
        # The first row of the split is no example of the authors.
        data.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *shots]), "utf-8")
        fields["dataset_kwargs"] = {
            "data_files": {"test": str(tmp_path / f"{own}.jsonl"), "prompt": str(data)}
        }
    ours = local_task(tmp_path, own, rows, **fields)
    theirs = shipped_task(tmp_path, SHIPPED / shipped, rows, shots)
    assert prompts(ours) == prompts(theirs)
    assert ours.config.generation_kwargs == theirs.config.generation_kwargs
    assert (ours.config.repeats, ours.config.num_fewshot) == (
        theirs.config.repeats,
        theirs.config.num_fewshot,
    )


def published_shots() -> list[dict[str, Any]]:
    """The examples in lm-eval's mbpp/utils.py, whose import needs the hub."""
    tree = ast.parse((SHIPPED / "mbpp" / "utils.py").read_text("utf-8"))
    (function,) = [
        node
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name == "list_fewshot_samples"
    ]
    (answer,) = [node for node in ast.walk(function) if isinstance(node, ast.Return)]
    assert answer.value is not None
    rows = ast.literal_eval(answer.value)
    return [{key: row[key] for key in row if key != "is_fewshot"} for row in rows]


def shipped_task(
    folder: Path, path: Path, rows: list[dict[str, Any]], shots: list[dict[str, Any]]
) -> Any:
    """lm-eval's own task over local rows, without the functions that need the hub."""
    config = load_yaml(path, resolve_func=False)
    data = folder / "shipped.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    config |= {
        "task": "shipped",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "filter_list": None,
    }
    if "fewshot_config" in config:
        samples = [{**row, "is_fewshot": True} for row in shots]
        config["fewshot_config"] = {"sampler": "first_n", "samples": samples}
    (folder / "shipped.yaml").write_text(json.dumps(config), "utf-8")
    manager = TaskManager(include_path=folder, include_defaults=False)
    (task,) = manager.load(["shipped"])["tasks"].values()
    return task

"""docs/adding-a-benchmark.md: one YAML file is a task, one Python file a judged benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import ROOT, blocks
from tests.docs.changed_code import ChangedCode, named_files
from tests.support.commands import run_module
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import load_recipe

PAGE = "adding-a-benchmark.md"


@pytest.mark.slow
def test_one_file_is_a_judged_benchmark(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    code = ChangedCode(tmp_path / "code", PAGE)
    code.run_tests()
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"id": 1, "task": "Say no."}\n')
    sections = yaml.safe_load(named_files(PAGE)["recipes/mine.yaml"])
    sections["eval"]["judged"]["letters"]["questions"] = str(tasks)
    path = write_recipe(**sections)
    priced = ("prompts.expected_prompts=100", "target.parameters_b=1")
    plan = json.loads(code.run("wrpo", "plan", "--json", "--recipe", path, *priced))
    assert "judge/letters/wrpo" in [stage["stage"] for stage in plan["stages"]]
    wrong = "eval.judged.letters.difficulty=x.csv"
    refused = code.refuses("wrpo", "plan", "--recipe", path, wrong)
    assert "eval.judged.letters.difficulty: benchmark letters has no difficulty; alpaca" in refused
    assert "eval.judged.letters" in code.run("wrpo", "reference")


@pytest.mark.slow
@pytest.mark.parametrize("named_by", ["task", "suite"])
def test_the_task_is_run_by_the_command_on_the_page(
    write_recipe: Callable[..., Path], tmp_path: Path, named_by: str
) -> None:
    for name in ("tasks/capitals.yaml", "suites/geography.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        text = named_files(PAGE)[name].replace("tasks/", f"{tmp_path}/tasks/")
        (tmp_path / name).write_text(text, encoding="utf-8")
    [rows] = [b.text for b in blocks(ROOT / "docs" / PAGE) if b.language == "json"]
    (tmp_path / "tasks" / "capitals.jsonl").write_text(rows, encoding="utf-8")
    path = write_recipe()
    named = {
        "task": "eval.tasks=[capitals]",
        "suite": f"eval.suite={tmp_path}/suites/geography.yaml",
    }
    overrides = [f"eval.include_path={tmp_path}/tasks", "eval.tasks=[]", "eval.dtype=float32"]
    overrides += [named[named_by]]
    result = run_module("eval.run", "--model", "target", "--recipe", path, *overrides)
    assert result.returncode == 0, result.stderr[-2000:]
    folder = Pipeline(load_recipe(path, overrides)).finished("eval/target")
    results = json.loads((folder / "results.json").read_text())
    assert results["tasks"]["capitals"]["n"] == 2
    assert "France" in results["tasks"]["capitals"]["first_prompt"]["text"]

"""The pages docs/adding-*.md work as they stand there: files, changes of code, commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import ROOT, blocks
from tests.support.commands import run_module
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_rows
from wrpo.recipe import load_recipe

PACKAGES = ("wrpo", "data_construction", "eval")


def named_files(page: str) -> dict[str, str]:
    """The blocks of a page that begin with a comment of their file's name, by that name."""
    texts = [block.text for block in blocks(ROOT / "docs" / page)]
    return {match[1]: text for text in texts if (match := re.match(r"# (\S+\.\w+)\n", text))}


class ChangedCode:
    """A copy of the packages with the files and the changes of a page."""

    def __init__(self, folder: Path, page: str) -> None:
        self.folder = folder
        for package in PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, folder / package, ignore=ignored)
        for name, text in named_files(page).items():
            if name.startswith(PACKAGES):
                (folder / name).write_text(text, encoding="utf-8")
        for block in blocks(ROOT / "docs" / page):
            if block.language == "diff":
                self._apply(block.text)

    def run(self, module: str, *arguments: object) -> None:
        """Runs a module of the copy."""
        done = run_module(module, *arguments, folder=self.folder)
        assert done.returncode == 0, done.stderr[-3000:]

    def _apply(self, change: str) -> None:
        # The folder of temporary files may lie inside somebody's repository.
        environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(self.folder.parent)}
        command = ["git", "apply", "--whitespace=nowarn", "-"]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, input=change, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{change}{done.stderr}"


@pytest.fixture
def runs(finished_run: Path, tmp_path: Path) -> Path:
    """A folder of runs of this test's own, in which `test` is the finished one."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "test").symlink_to(finished_run.parent / "runs" / "test")
    return tmp_path / "runs"


def test_the_sources_can_be_named_in_a_recipe(write_recipe: Callable[..., Path]) -> None:
    path = write_recipe(sources=["olmo2-13b", "hosted"])
    for name, text in named_files("adding-a-source.md").items():
        (path.parent / "sources").mkdir(exist_ok=True)
        (path.parent / "sources" / Path(name).name).write_text(text, encoding="utf-8")
    sources = load_recipe(path).sources
    assert sources["olmo2-13b"].sampling.temperature == 0.7
    assert sources["olmo2-13b"].engine.tensor_parallel_size == 2
    assert sources["hosted"].engine.backend == "openai"
    assert sources["hosted"].engine.api_key_env == "VENDOR_API_KEY"


@pytest.mark.slow
def test_the_reward_scores_the_answers_of_a_run(
    finished_run: Path, runs: Path, tmp_path: Path
) -> None:
    page = "adding-a-reward.md"
    [section] = yaml.safe_load(named_files(page)["recipes/mine.yaml"])["rewards"].values()
    section |= {"words": 2, "weight": 1.0}
    rewards = json.dumps({"short": section})
    changes = [f"runs={runs}", "run=shorter", "reuse=test", f"rewards={rewards}"]
    command = ["data_construction.score", "--source", "one", "--recipe", finished_run, *changes]
    ChangedCode(tmp_path / "code", page).run(*command)
    rows = read_rows(runs / "shorter" / "score" / "one")
    answers = {
        (row["prompt_id"], row["index"]): len(row["text"].split())
        for row in read_rows(runs / "test" / "sample" / "one")
    }
    assert rows
    for row in rows:
        assert row["score"] == min(1.0, 2 / answers[row["prompt_id"], row["index"]])


@pytest.mark.slow
@pytest.mark.parametrize("named_by", ["task", "suite"])
def test_the_benchmark_is_run_by_the_command_on_the_page(
    write_recipe: Callable[..., Path], tmp_path: Path, named_by: str
) -> None:
    page = "adding-a-benchmark.md"
    for name, text in named_files(page).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("tasks/", f"{tmp_path}/tasks/"), encoding="utf-8")
    [rows] = [b.text for b in blocks(ROOT / "docs" / page) if b.language == "json"]
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

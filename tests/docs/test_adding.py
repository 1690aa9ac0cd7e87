"""Pages about adding data files, sources and benchmarks, work as they stand there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.docs.changed_code import named_files
from tests.support.commands import run_module
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import load_recipe


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

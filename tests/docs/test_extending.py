"""The examples of docs/extending.md work as they stand there."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.docs.blocks import blocks
from wrpo.recipe import load_recipe
from wrpo.stages import Pipeline

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def example(language: str, beginning: str) -> str:
    """The block of a language that begins with some text."""
    found = [
        block.text
        for block in blocks(PAGE)
        if block.language == language and block.text.startswith(beginning)
    ]
    assert len(found) == 1
    return found[0]


def test_the_python_examples_run_in_order_and_hold_what_they_assert(tmp_path: Path) -> None:
    code = "".join(block.text for block in blocks(PAGE) if block.language == "python")
    assert code.count("assert ") >= 4
    (tmp_path / "example.py").write_text(code)
    runpy.run_path(str(tmp_path / "example.py"))


def test_the_source_can_be_named_in_a_recipe(write_recipe: Callable[..., Path]) -> None:
    path = write_recipe(sources=["olmo2-13b"])
    folder = path.parent / "sources"
    folder.mkdir()
    (folder / "olmo2-13b.yaml").write_text(example("yaml", "# recipes/sources/olmo2-13b.yaml"))
    source = load_recipe(path).sources["olmo2-13b"]
    assert source.sampling.temperature == 0.7
    assert source.engine.tensor_parallel_size == 2


@pytest.mark.slow
def test_the_benchmark_is_run_by_the_command_on_the_page(
    write_recipe: Callable[..., Path], run_module: Callable[..., object], tmp_path: Path
) -> None:
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    text = example("yaml", "# tasks/capitals.yaml")
    (tasks / "capitals.yaml").write_text(text.replace("tasks/capitals.jsonl", f"{tasks}/c.jsonl"))
    (tasks / "c.jsonl").write_text(example("json", "{"))
    path = write_recipe()
    result = run_module(
        "eval.run",
        *("--model", "target", "--recipe", path),
        *(f"eval.include_path={tasks}", "eval.tasks=[capitals]", "eval.dtype=float32"),
    )
    assert result.returncode == 0, result.stderr[-2000:]  # type: ignore[attr-defined]
    overrides = [f"eval.include_path={tasks}", "eval.tasks=[capitals]", "eval.dtype=float32"]
    folder = Pipeline(load_recipe(path, overrides)).finished("eval/target")
    results = json.loads((folder / "results.json").read_text())
    assert results["tasks"]["capitals"]["n"] == 2
    assert "France" in results["tasks"]["capitals"]["first_prompt"]["text"]
    assert yaml.safe_load(text)["task"] == "capitals"

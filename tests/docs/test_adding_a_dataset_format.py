"""docs/adding-a-dataset-format.md: one new file reads rows, named or recognised."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.docs.changed_code import ChangedCode, named_files
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_parquet, read_rows
from wrpo.recipe import load_recipe

PAGE = "adding-a-dataset-format.md"


@pytest.mark.slow
def test_one_file_is_enough(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    code = ChangedCode(tmp_path / "code", PAGE)
    code.run_tests()
    data = tmp_path / "alpaca.json"
    rows = [{"instruction": f"Add {n}.", "input": "2 + 2", "output": f"{n}"} for n in range(3)]
    data.write_text(json.dumps([*rows, {"instruction": "Add."}]))
    sections = yaml.safe_load(named_files(PAGE)["recipes/mine.yaml"])
    [prompts] = sections["prompts"]["datasets"].values()
    for dataset in (prompts, sections["build"]["imported"]["sft"]):
        dataset |= {"path": str(data), "max_dropped_share": 0.3}
    del prompts["max_dropped_share"]
    path = write_recipe(build=sections["build"])
    shown = ["prompts.max_dropped_share=0.3", f"prompts.datasets={json.dumps({'a': prompts})}"]
    code.run("data_construction.prompts", "--recipe", path, *shown)
    code.run("data_construction.build", "--table", "sft", "--recipe", path)
    table = read_rows(Pipeline(load_recipe(path)).finished("build/sft"))
    asked = [row["prompt"][0]["content"] for row in table]
    assert sorted(asked) == [f"Add {n}.\n\n2 + 2" for n in range(3)]
    runs = load_recipe(path).runs / load_recipe(path).run
    found = [row["messages"][0]["content"] for row in read_rows(runs / "prompts")]
    assert sorted(found) == sorted(asked)
    [dropped] = read_parquet(runs / "prompts" / "dropped.parquet")
    assert "not a row of format alpaca (KeyError: 'output')" in dropped["detail"]

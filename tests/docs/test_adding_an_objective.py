"""docs/adding-an-objective.md: one new file is a new objective, for recipes, plan and trainer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs.changed_code import ChangedCode, named_files

PAGE = "adding-an-objective.md"


def test_one_file_is_enough(write_recipe, tmp_path: Path) -> None:
    assert sorted(named_files(PAGE)) == [
        "tests/wrpo/objectives/test_apo.py",
        "wrpo/objectives/apo.py",
    ]
    code = ChangedCode(tmp_path / "code", PAGE)
    code.run_tests()
    path = write_recipe(arms={"apo": {"objective": "apo", "beta": 0.1}})
    priced = ("prompts.expected_prompts=100", "target.parameters_b=1")
    plan = json.loads(code.run("wrpo", "plan", "--json", "--recipe", path, *priced))
    assert "apo" in [stage["stage"] for stage in plan["stages"]]
    refused = code.refuses("wrpo", "plan", "--recipe", path, "arms.apo.alpha={end: 1}")
    assert "objective apo has no alpha; wrpo has" in refused


@pytest.mark.slow
def test_it_trains(finished_run: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "test").symlink_to(finished_run.parent / "runs" / "test")
    changes = [f"runs={runs}", "run=anchored", "reuse=test", "arms.apo={objective: apo, beta: 0.1}"]
    code = ChangedCode(tmp_path / "code", PAGE)
    code.run("wrpo.train", "--arm", "apo", "--recipe", finished_run, *changes)
    [first, *_] = json.loads((runs / "anchored" / "apo" / "log_history.json").read_text())
    assert first["preference_loss"] == pytest.approx(1.0, abs=1e-5)

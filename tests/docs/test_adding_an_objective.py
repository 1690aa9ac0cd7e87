"""docs/adding-an-objective.md: one new file is a new objective, for recipes, plan and trainer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.docs.changed_code import ChangedCode, named_files

PAGE = "adding-an-objective.md"


@pytest.mark.slow
def test_one_file_is_enough(write_recipe, tmp_path: Path) -> None:
    assert sorted(named_files(PAGE)) == [
        "tests/wrpo/objectives/test_apo.py",
        "wrpo/objectives/apo.py",
    ]
    code = ChangedCode(tmp_path / "code", PAGE)
    code.run_tests()
    arms = {
        "apo": {"objective": "apo", "beta": 0.1, "rejected_weight": 3.0},
        "dpo": {"objective": "dpo"},
    }
    path = write_recipe(arms=arms)
    table = ROOT / "recipes" / "throughput.yaml"
    priced = ("--throughput", table, "prompts.expected_prompts=100", "target.parameters_b=1")
    plan = json.loads(code.run("wrpo", "plan", "--json", "--recipe", path, *priced))
    hours = {
        stage["stage"]: stage["price"]["gpu_hours"] for stage in plan["stages"] if stage["price"]
    }
    assert hours["apo"] == hours["dpo"]  # both read two responses
    assert hours["apo"] < hours["wrpo"]  # which reads three
    refused = code.refuses("wrpo", "plan", "--recipe", path, "arms.apo.alpha={end: 1}")
    assert "objective apo has no alpha; wrpo has" in refused
    refused = code.refuses("wrpo", "plan", "--recipe", path, "arms.apo.rejected_weight=-1")
    assert "arms.apo.rejected_weight" in refused
    refused = code.refuses("wrpo", "plan", "--recipe", path, "arms.dpo.rejected_weight=1")
    assert "objective dpo has no rejected_weight; apo has" in refused


@pytest.mark.slow
@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_it_trains_with_its_own_field(finished_run: Path, tmp_path: Path, weight: float) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "test").symlink_to(finished_run.parent / "runs" / "test")
    arm = f"{{objective: apo, beta: 0.1, rejected_weight: {weight}}}"
    changes = [f"runs={runs}", "run=anchored", "reuse=test", f"arms.apo={arm}"]
    code = ChangedCode(tmp_path / "code", PAGE)
    code.run("wrpo.train", "--arm", "apo", "--recipe", finished_run, *changes)
    [first, *_] = json.loads((runs / "anchored" / "apo" / "log_history.json").read_text())
    assert first["preference_loss"] == pytest.approx(0.5 + 0.5 * weight, abs=1e-5)

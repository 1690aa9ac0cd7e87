"""`python -m wrpo plan` as a user types it."""

import json
import re
from pathlib import Path

from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import load_recipe

RECIPES = Path(__file__).parents[3] / "recipes"


def test_plan_names_states_commands_and_prices(write_recipe, run_module) -> None:
    path = write_recipe()
    command = ["wrpo", "plan", "--recipe", path, "--throughput", RECIPES / "throughput.yaml"]
    result = run_module(*command, "--explain", "prompts.expected_prompts=100")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    for name in Pipeline(load_recipe(path)).stages:
        rows = [
            line for line in lines if re.search(rf"(?<![\w/]){re.escape(name)} .*missing", line)
        ]
        assert len(rows) == 1, name
    assert f"python -m wrpo.train --arm wrpo --recipe {path} prompts.exp" in result.stdout
    assert "100 prompts, 200 responses x 450 tokens (expected length)" in result.stdout
    assert "size from its safetensors files" in " ".join(result.stdout.split())
    assert "> prompts" in result.stdout
    assert "  whole run" in result.stdout


def test_plan_for_scripts_and_another_gpu(write_recipe, run_module) -> None:
    path = write_recipe()
    table = RECIPES / "throughput.yaml"
    command = ["wrpo", "plan", "--recipe", path, "--throughput", table, "--json", "--gpu"]
    plan = json.loads(run_module(*command, "a100").stdout)
    assert plan["gpu"] == "a100"
    assert [stage["stage"] for stage in plan["stages"]] == list(Pipeline(load_recipe(path)).stages)
    wrong = run_module(*command, "tpu")
    assert wrong.returncode == 2
    assert "has no tpu; it has: h100" in wrong.stderr


def test_the_shipped_paper_recipe_has_a_price(run_module) -> None:
    result = run_module("wrpo", "plan", "--json", "--recipe", RECIPES / "llama3-8b-wrpo.yaml")
    plan = json.loads(result.stdout)
    assert plan["total"]["without_price"] == []
    assert plan["total"]["gpu_hours"] > 0

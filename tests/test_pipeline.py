"""The whole pipeline on models with random weights: real vLLM, TRL, lm-eval, in one command."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_rows
from wrpo.recipe import load_recipe


@pytest.mark.slow
def test_one_command_leads_from_prompts_to_a_report(
    finished_run: Path, run_module: Callable[..., CompletedProcess[str]]
) -> None:
    pipeline = Pipeline(load_recipe(finished_run))
    assert {name: pipeline.state(name) for name in pipeline.stages} == dict.fromkeys(
        pipeline.stages, "done"
    )
    _check_training(pipeline)
    report = (pipeline.folder("report") / "report.html").read_text()
    assert all(name in report for name in ("wrpo", "dpo", "lora", "more-sft"))
    again = run_module("wrpo", "run", "--recipe", finished_run)
    assert again.returncode == 0 and "is done" in again.stderr
    assert "sample/one" not in again.stderr


def _check_training(pipeline: Pipeline) -> None:
    triples = read_rows(pipeline.folder("build/triples"))
    logprobs = read_rows(pipeline.folder("logprobs/sft/triples"))
    assert len(logprobs) == 3 * len(triples)
    assert all(row["logp"] < 0 < row["length"] for row in logprobs)
    for arm in ("wrpo", "dpo", "lora", "more-sft", "infifpo", "cgpo", "pairs-dpo"):
        folder = pipeline.folder(arm)
        assert (folder / "model" / "model.safetensors").is_file()
        assert (folder / "model" / "chat_template.jinja").is_file()
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["steps"] == 2
    history = json.loads((pipeline.folder("wrpo") / "log_history.json").read_text())
    assert [row["alpha"] for row in history if "alpha" in row] == [0.0, 0.25]
    assert history[0]["preference_loss"] == pytest.approx(0.6931, abs=2e-3)
    assert (pipeline.folder("wrpo") / "checkpoints" / "checkpoint-2").is_dir()

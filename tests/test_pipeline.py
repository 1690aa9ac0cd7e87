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


@pytest.mark.slow
def test_one_command_goes_through_all_sources_and_all_tables_of_a_kind(
    finished_run: Path, run_module: Callable[..., CompletedProcess[str]]
) -> None:
    sampled = run_module("data_construction.sample", "--source", "all", "--recipe", finished_run)
    assert sampled.returncode == 0, sampled.stderr[-3000:]
    assert all(f"sample/{name}" in sampled.stderr for name in ("one", "two"))
    scored = run_module("data_construction.logprobs", "--recipe", finished_run)
    assert scored.returncode == 0, scored.stderr[-3000:]
    kinds = Pipeline(load_recipe(finished_run)).of_kind("logprobs")
    assert len(kinds) > 1 and all(stage.name in scored.stderr for stage in kinds)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["data_construction.revise", "--source", "one"], 'revise: nothing about "one"'),
        (["data_construction.consistency"], "the recipe has no consistency; write consistency:"),
        (["data_construction.teacher_logits"], "no arm of recipe test reads these"),
        (["data_construction.logprobs", "--model", "two"], "reads these log-probs"),
        (["data_construction.sample", "--source", "one", "--limit", "0"], "--limit must be at"),
        (["wrpo.pruning"], "the recipe has no prune; write prune:"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_without_its_section_says_what_to_write(
    command: list[str],
    says: str,
    write_recipe: Callable[..., Path],
    run_module: Callable[..., CompletedProcess[str]],
) -> None:
    result = run_module(*command, "--recipe", write_recipe())
    assert result.returncode == 2
    assert says in result.stderr and "Traceback" not in result.stderr

"""Stages as forks of one loaded process make what new processes make."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import run_module
from wrpo.pipeline import stage_process
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.stage_process import StartFork, StartStage, start_new
from wrpo.recipe import load_recipe


@pytest.fixture(params=[start_new, StartFork], ids=["new", "fork"])
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> StartStage:
    monkeypatch.setattr(stage_process, "PRELOADED", "json")
    return StartFork() if request.param is StartFork else start_new


def test_output_and_exit_code_arrive(start: StartStage, tmp_path: Path) -> None:
    process = start(["json.tool", str(tmp_path / "missing.json")], tmp_path / "log")
    process.wait()
    assert process.poll() == process.returncode == 2
    assert "missing.json" in (tmp_path / "log").read_text()


def test_a_stage_that_works_ends_with_zero(start: StartStage, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('{"a": 1}')
    process = start(["json.tool", "--compact", str(tmp_path / "in.json")], tmp_path / "log")
    process.wait()
    assert process.returncode == 0
    assert (tmp_path / "log").read_text() == '{"a":1}\n'


def test_a_stage_can_be_ended(start: StartStage, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    process = start(["json.tool", str(tmp_path / "fifo")], tmp_path / "log")
    time.sleep(0.2)
    assert process.poll() is None
    process.terminate()
    process.wait()
    assert process.returncode == -signal.SIGTERM


def test_forks_are_refused_where_there_are_gpus(
    write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho NVIDIA H200\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    result = run_module("wrpo", "run", "--preload", "--recipe", write_recipe())
    assert result.returncode == 2
    assert "--preload is for CPUs, and this machine has NVIDIA H200: leave it out" in result.stderr


@pytest.mark.slow
def test_preloaded_stages_train_the_same_model(
    finished_run: Path,
) -> None:
    first = load_recipe(finished_run)
    arm = '{"again": {"objective": "dpo", "likelihood": {"weight": 0.0}, "reference": "model"}}'
    changes = ["run=preloaded", f"reuse={first.run}", f"arms={arm}"]
    result = run_module("wrpo", "run", "--preload", "--jobs", 2, "--recipe", finished_run, *changes)
    assert result.returncode == 0, result.stderr[-3000:]
    made, before = Pipeline(load_recipe(finished_run, changes)), Pipeline(first)
    assert {made.state(name) for name in made.stages} == {"done"}
    file = Path("model") / "model.safetensors"
    assert (made.folder("again") / file).read_bytes() == (before.folder("dpo") / file).read_bytes()

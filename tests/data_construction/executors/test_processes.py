"""Replicas of one engine: shared parts, deaths, devices."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from data_construction.executors import processes
from data_construction.executors.processes import Replicas, device_groups
from data_construction.sampling.part_sampler import PartSampler
from wrpo.engines.vllm import VLLMSettings
from wrpo.errors import RecipeError
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.parts import Shard, StageWork
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_rows
from wrpo.recipe import load_recipe

SAMPLE = {
    "responses": 2,
    "temperature": 0.0,
    "max_tokens": 8,
    "max_prompt_tokens": 120,
    "chunk_prompts": 4,
    "engine": {"backend": "transformers", "max_num_seqs": 8},
}


def gpus(monkeypatch: pytest.MonkeyPatch, count: int, visible: str | None = None) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


def test_each_replica_has_the_gpus_of_its_parallel_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 8)
    assert device_groups(2, VLLMSettings(tensor_parallel_size=2, pipeline_parallel_size=2)) == [
        "0,1,2,3",
        "4,5,6,7",
    ]
    gpus(monkeypatch, 3, "5,GPU-a,7")
    assert device_groups(3, VLLMSettings()) == ["5", "GPU-a", "7"]
    with pytest.raises(RecipeError, match="needs 4; 3 are visible"):
        device_groups(2, VLLMSettings(tensor_parallel_size=2))


def test_nothing_is_pinned_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    assert device_groups(2, VLLMSettings(tensor_parallel_size=4)) == [None, None]


@pytest.mark.slow
def test_servers_are_their_own_replicas(write_recipe, run_module) -> None:
    engine = {"backend": "openai", "endpoints": ["http://127.0.0.1:9/v1"], "replicas": 2}
    path = write_recipe(sample={**SAMPLE, "engine": engine})
    assert run_module("data_construction.prompts", "--recipe", path).returncode == 0
    result = run_module("data_construction.sample", "--recipe", path, "--source", "one")
    assert result.returncode == 2
    assert "list them under engine.endpoints" in result.stderr


@pytest.mark.slow
def test_what_a_killed_replica_had_claimed_is_made_by_the_other(
    write_recipe, run_module, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This process has loaded what replicas need; the test of their errors starts new ones.
    monkeypatch.setattr(processes, "get_context", lambda _: get_context("fork"))
    path: Path = write_recipe(prompts=96, sample=SAMPLE)
    for run in ("run=alone", "run=test"):
        assert run_module("data_construction.prompts", "--recipe", path, run).returncode == 0
    command = ["data_construction.sample", "--recipe", path, "--source", "one"]
    assert run_module(*command, "run=alone").returncode == 0

    recipe = load_recipe(path, ["sample.engine.replicas=2"])
    sampler = PartSampler(recipe, "one")
    folder = StageFolder(sampler.pipeline.folder("sample/one"), sampler.pipeline.key("sample/one"))
    folder.open(parts=24)
    work = StageWork("sample/one", folder, parts=24)
    work.begin()
    replicas = Replicas(sampler, work, Shard(1, 1))
    told: list[tuple[int, int]] = []

    def tell(*new: int) -> None:
        told.append((new[0], new[1]))

    with closing(replicas.parts(tell)) as made:
        written = [next(made)]
        first, second = sorted(replicas._living, key=lambda replica: not replica.claimed)
        # Or it may make all parts before the other has begun.
        os.kill(first.process.pid, signal.SIGSTOP)
        written += _until_both_have_parts(replicas, tell)
        os.kill(first.process.pid, signal.SIGKILL)
        written += list(made)
    assert sorted(written) == list(range(24))
    assert f"replica {first.number} of sample/one died (exit code -9)" in caplog.text
    assert second.process.exitcode == 0 and not second.log.exists() and first.log.exists()
    assert sum(responses for responses, _ in told) == 192
    work.finish()
    rows = {
        run: read_rows(Pipeline(load_recipe(path, [run])).finished("sample/one"))
        for run in ("run=alone", "run=test")
    }
    assert rows["run=test"] == rows["run=alone"] and len(rows["run=test"]) == 192


def _until_both_have_parts(replicas: Replicas, tell: Callable[..., None]) -> list[int]:
    """The parts that were written meanwhile."""
    written: list[int] = []
    deadline = time.monotonic() + 120
    while not all(replica.claimed for replica in replicas._living):
        assert time.monotonic() < deadline
        for replica in replicas._with_news():
            written += list(replicas._hear(replica, tell))
    return written


@pytest.mark.slow
def test_an_error_of_a_replica_is_the_error_of_the_command(
    write_recipe, run_module, tmp_path: Path
) -> None:
    empty = tmp_path / "nothing"
    empty.mkdir()
    path = write_recipe(sources={"one": {"model": str(empty)}}, sample=SAMPLE)
    assert run_module("data_construction.prompts", "--recipe", path).returncode == 0
    result = run_module(
        "data_construction.sample", "--recipe", path, "--source", "one", "sample.engine.replicas=2"
    )
    assert result.returncode == 2, result.stderr
    assert str(empty) in result.stderr and "Traceback" not in result.stderr

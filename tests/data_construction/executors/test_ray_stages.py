"""Sampling and scoring by real engines on a Ray cluster of two nodes, while workers are killed."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from data_construction.prompts import make_prompts
from data_construction.sample import sample
from data_construction.sampling.part_sampler import PartSampler
from data_construction.score import score_sources
from tests.data_construction.test_sample import GREEDY
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_rows
from wrpo.recipe import load_recipe

pytestmark = pytest.mark.slow
WHOLE = Shard(1, 1)


def kill_a_worker_after(parts: int, folder: Path) -> threading.Thread:
    """Kills a worker process of our cluster as soon as the folder holds so many parts."""

    def watch() -> None:
        while len(list(folder.glob("part-*"))) < parts:
            time.sleep(0.02)
        workers = [
            process.pid
            for process in psutil.Process().children(recursive=True)
            if process.name().startswith("ray::Worker")
        ]
        os.kill(workers[0], signal.SIGKILL)
        killed.append(workers[0])

    killed: list[int] = []
    thread = threading.Thread(target=watch, daemon=True)
    thread.killed = killed  # type: ignore[attr-defined]
    thread.start()
    return thread


def test_with_a_worker_killed_the_tables_equal_those_of_one_process(
    write_recipe, run_module, two_nodes: str, tmp_path: Path
) -> None:
    path = write_recipe(prompts=200, sample=GREEDY)
    on_ray = [f"executor={{type: ray, address: '{two_nodes}'}}", "run=ray"]
    here, there = load_recipe(path), load_recipe(path, on_ray)
    for recipe in (here, there):
        make_prompts(recipe)
    result = run_module("data_construction.sample", "--recipe", path, "--source", "one")
    assert result.returncode == 0, result.stderr[-2000:]
    killer = kill_a_worker_after(2, Pipeline(there).folder("sample/one"))
    sample(PartSampler(there, "one"), WHOLE)
    assert killer.killed
    responses = [read_rows(Pipeline(recipe).finished("sample/one")) for recipe in (here, there)]
    assert responses[0] == responses[1] and len(responses[0]) == 400

    score_sources(here, ["one"], WHOLE)
    killer = kill_a_worker_after(1, Pipeline(there).folder("score/one"))
    shared = load_recipe(path, [*on_ray, f"executor.shared=file://{tmp_path / 'shared'}"])
    score_sources(shared, ["one"], WHOLE)
    assert killer.killed
    scores = [read_rows(Pipeline(recipe).finished("score/one")) for recipe in (here, there)]
    assert scores[0] == scores[1] and len(scores[0]) > 300, "the rest are empty responses"

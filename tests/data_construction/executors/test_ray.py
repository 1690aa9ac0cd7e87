"""The pool of Ray actors, on a real cluster of two nodes: a toy stage, then real engines."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from data_construction.executors import run_on_ray
from data_construction.executors.transport import ThroughShared
from data_construction.prompts import make_prompts
from data_construction.sample import sample
from data_construction.sampling.part_sampler import PartSampler
from data_construction.score import score_sources
from tests.data_construction.executors.toy_job import STAGE, output, scored, toy_job
from tests.data_construction.test_sample import GREEDY
from tests.support.commands import FORKED_PYTHON, server_pid
from tests.support.recipe_files import tiny_recipe
from wrpo.errors import DataError, RecipeError, StageError
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import SCORES, read_rows
from wrpo.recipe import Recipe, load_recipe
from wrpo.recipe.executor import RayExecutor

pytestmark = pytest.mark.slow


@pytest.fixture
def run(two_nodes: str, toy_once: Path, tmp_path: Path) -> Callable[..., list[float]]:
    """Runs a toy job and returns the scores of its rows."""
    for marker in toy_once.iterdir():
        marker.unlink()
    recipe: Recipe = tiny_recipe(tmp_path)

    def run_toy(words: list[str], limit=lambda stage, part: None, **executor) -> list[float]:
        job = toy_job(recipe, tmp_path, words, limit)
        run_on_ray(job, RayExecutor(type="ray", address=two_nodes, **executor))
        assert output(tmp_path).finish_parts(len(words))
        return [row["score"] for row in read_rows(tmp_path / "out")]

    return run_toy


def test_both_nodes_make_every_part_once_though_workers_die(run) -> None:
    words = ["", "die once", "", "", "die once", *[""] * 15]
    assert run(words) == list(range(20))


def test_parts_and_inputs_travel_through_a_shared_folder(run, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    seen = []
    words = ["", "drop", "die once", "", ""]
    found = run(words, lambda _, part: seen.append(part), shared=f"file://{shared}")
    assert found == [0, 2, 3, 4]
    assert sorted(seen) == [0, 1, 2, 3, 4]
    left = [path for path in shared.rglob("*") if path.is_file() and "inputs" not in path.parts]
    assert left == []


def test_parts_that_a_killed_driver_left_in_the_shared_folder_are_brought_home(
    tmp_path: Path,
) -> None:
    url = f"file://{tmp_path / 'shared'}"
    seen = []
    job = toy_job(tiny_recipe(tmp_path), tmp_path, ["", ""], lambda _, part: seen.append(part))
    worker = ThroughShared(job, url).workers_side()
    with worker.workplace() as (_, outputs):
        for unit in job.units:
            outputs[STAGE].write_part(unit[0].part, [scored(unit[0].part, "")], SCORES)
            worker.deliver(unit[0])
    assert not output(tmp_path).done_parts()
    # Nothing is left to make, so that no cluster is needed.
    run_on_ray(job, RayExecutor(type="ray", address="127.0.0.1:1", shared=url))
    assert [row["score"] for row in read_rows(tmp_path / "out")] == seen == [0, 1]


@pytest.mark.parametrize(
    ("word", "message"),
    [("die", r"part 1 of score/one has lost 3 workers"), ("bug", "ZeroDivisionError: a bug")],
)
def test_a_part_that_keeps_killing_workers_stops_the_stage_when_the_rest_is_made(
    run, tmp_path: Path, word: str, message: str
) -> None:
    with pytest.raises(StageError, match=message):
        run(["", word, "", "", "", ""])
    made = {row["score"] for row in read_rows(tmp_path / "out")}
    assert made == {0, 2, 3, 4, 5}


DRIVER = """
import sys
from pathlib import Path
from data_construction.executors import run_on_ray
from tests.data_construction.executors.toy_job import toy_job
from tests.support.recipe_files import tiny_recipe
from wrpo.cli import run_main
from wrpo.recipe.executor import RayExecutor

folder = Path(sys.argv[1])
job = toy_job(tiny_recipe(folder), folder, ["", "sleep", "sleep"], lambda stage, part: None)
run_main(lambda: run_on_ray(job, RayExecutor(type="ray", address=sys.argv[2])))
"""


def workers() -> list[psutil.Process]:
    """The worker actors of the cluster, which are forks of the command server."""
    found = psutil.Process(server_pid()).children(recursive=True)
    return [process for process in found if process.name().startswith("ray::Worker")]


def test_sigterm_to_the_driver_ends_it_and_its_actors_and_keeps_parts(
    two_nodes: str, tmp_path: Path
) -> None:
    driver = subprocess.Popen(
        [*FORKED_PYTHON.split(), "-c", DRIVER, str(tmp_path), two_nodes],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "out/part-00000.parquet").exists():
        assert driver.poll() is None
        time.sleep(0.05)
    assert workers()
    driver.send_signal(signal.SIGTERM)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 143, errors
    assert "run the same command again" in errors
    _, alive = psutil.wait_procs(workers(), timeout=20)
    assert alive == []
    assert [row["score"] for row in read_rows(tmp_path / "out")] == [0]


def test_what_the_user_can_mend_stops_the_stage_at_once(run) -> None:
    with pytest.raises(DataError, match="the toy is broken; fix it"):
        run(["user error"])


def test_the_driver_counts_dropped_rows_as_parts_come_home(run) -> None:
    def limit(stage: str, part: int) -> None:
        raise DataError(f"part {part} of {stage}: too many rows dropped")

    with pytest.raises(DataError, match="too many"):
        run(["drop", ""], limit)


def test_a_replica_that_fits_nowhere_is_refused_instead_of_waiting(run) -> None:
    with pytest.raises(StageError, match="a replica needs 0 GPUs and 2 CPUs on one machine"):
        run([""], cpus_per_replica=2)


def test_no_cluster_at_the_address(tmp_path: Path) -> None:
    job = toy_job(tiny_recipe(tmp_path), tmp_path, [""], print)
    with pytest.raises(RecipeError, match=r"no Ray cluster answers at 127.0.0.1:1"):
        run_on_ray(job, RayExecutor(type="ray", address="127.0.0.1:1"))


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    job = toy_job(tiny_recipe(tmp_path), tmp_path, [""], print)
    with pytest.raises(RecipeError, match=r"pip install 'wrpo\[ray\]'"):
        run_on_ray(job, RayExecutor(type="ray"))


def kill_a_worker_after(parts: int, folder: Path) -> threading.Thread:
    """Kills a worker process of our cluster as soon as the folder holds so many parts."""

    def watch() -> None:
        while len(list(folder.glob("part-*"))) < parts:
            time.sleep(0.02)
        victim = workers()[0].pid
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    killed: list[int] = []
    thread = threading.Thread(target=watch, daemon=True)
    thread.killed = killed  # type: ignore[attr-defined]
    thread.start()
    return thread


def test_with_a_worker_killed_the_tables_equal_those_of_one_process(
    write_recipe, run_module, two_nodes: str, tmp_path: Path
) -> None:
    path = write_recipe(prompts=96, sample=GREEDY)
    on_ray = [f"executor={{type: ray, address: '{two_nodes}'}}", "run=ray"]
    here, there = load_recipe(path), load_recipe(path, on_ray)
    for recipe in (here, there):
        make_prompts(recipe)
    result = run_module("data_construction.sample", "--recipe", path, "--source", "one")
    assert result.returncode == 0, result.stderr[-2000:]
    killer = kill_a_worker_after(2, Pipeline(there).folder("sample/one"))
    sample(PartSampler(there, "one"), Shard(1, 1))
    assert killer.killed
    answers = [read_rows(Pipeline(recipe).finished("sample/one")) for recipe in (here, there)]
    assert answers[0] == answers[1] and len(answers[0]) == 192

    score_sources(here, ["one"], Shard(1, 1))
    killer = kill_a_worker_after(1, Pipeline(there).folder("score/one"))
    shared = load_recipe(path, [*on_ray, f"executor.shared=file://{tmp_path / 'shared'}"])
    score_sources(shared, ["one"], Shard(1, 1))
    assert killer.killed
    scores = [read_rows(Pipeline(recipe).finished("score/one")) for recipe in (here, there)]
    assert scores[0] == scores[1] and len(scores[0]) > 144, "the rest are empty answers"

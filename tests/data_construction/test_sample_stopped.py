"""SIGTERM while vLLM samples with its engine in a process of its own, as on GPUs."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from data_construction.prompts import make_prompts
from tests.data_construction.test_sample import GREEDY
from tests.support.commands import REPOSITORY, Command, environment, server_pid
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import load_recipe


def running_in(folder: Path) -> list[psutil.Process]:
    """The command and its engine, which are forks of the command server."""
    found = psutil.Process(server_pid()).children(recursive=True)
    return [process for process in found if Path(process.cwd()) == folder]


@pytest.mark.slow
def test_sigterm_ends_sampling_and_its_engine_process_and_keeps_parts(
    write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    path = write_recipe(prompts=1000, sample={**GREEDY, "responses": 4})
    recipe = load_recipe(path)
    make_prompts(recipe)
    folder = Pipeline(recipe).folder("sample/one")
    arguments = ("data_construction.sample", "--recipe", path, "--source", "one")
    own_engine = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "PYTHONPATH": str(REPOSITORY)}
    process = Command(*arguments, folder=tmp_path, env={**environment(), **own_engine})
    while not list(folder.glob("part-*")):
        assert process.poll() is None, process.stderr[-3000:]
        time.sleep(0.02)
    family = running_in(tmp_path)
    assert any("EngineCore" in member.name() for member in family), family
    process.terminate()
    assert process.wait(60) == 143, process.stderr[-3000:]
    assert process.stderr.endswith("stopped; run the same command again to go on where it was\n")
    # multiprocessing's resource tracker goes when it sees that the others have gone.
    _, left = psutil.wait_procs(family, timeout=20)
    assert not left
    assert Pipeline(recipe).state("sample/one") == "partial"
    assert 0 < len(list(folder.glob("part-*"))) < 250

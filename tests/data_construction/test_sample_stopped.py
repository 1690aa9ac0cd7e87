"""SIGTERM while vLLM samples with its engine in a process of its own, as on GPUs."""

import time
from pathlib import Path

import psutil
import pytest

from data_construction.prompts import make_prompts
from tests.data_construction.test_sample import GREEDY
from tests.support.commands import FOLDER, Command, environment
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import load_recipe


@pytest.mark.slow
def test_sigterm_ends_sampling_and_its_engine_process_and_keeps_parts(write_recipe) -> None:
    path: Path = write_recipe(prompts=1000, sample={**GREEDY, "responses": 4})
    recipe = load_recipe(path)
    make_prompts(recipe)
    folder = Pipeline(recipe).folder("sample/one")
    arguments = ("data_construction.sample", "--recipe", path, "--source", "one")
    # The engine is no fork of the command server: it must be a child of the command.
    with_engine = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", FOLDER: ""}
    process = Command(*arguments, env={**environment(), **with_engine})
    while not list(folder.glob("part-*")):
        assert process.poll() is None, process.stderr[-3000:]
        time.sleep(0.02)
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("EngineCore" in member.name() for member in family), family
    process.terminate()
    assert process.wait(60) == 143, process.stderr[-3000:]
    assert process.stderr.endswith("stopped; run the same command again to go on where it was\n")
    assert not [member for member in family if member.is_running()]
    assert Pipeline(recipe).state("sample/one") == "partial"
    assert 0 < len(list(folder.glob("part-*"))) < 250

"""A training stage started under accelerate by its recipe, with two processes on CPUs.

The config says bf16 and the recipe, on CPUs, float32.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import Command, environment
from tests.wrpo.conftest import make_triples
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import TRIPLES
from wrpo.recipe import load_recipe

ROOT = Path(__file__).parents[3]
STEPS = 3


def recipe_with_inputs(
    write_recipe: Callable[..., Path], target: Path, *, runs: Path, **engine: object
) -> tuple[Path, Pipeline]:
    """A recipe whose WRPO stage has its inputs: triples, and the target as the SFT model."""
    train = {"max_steps": STEPS, "logging_steps": 1, "learning_rate": 1e-3, "save_strategy": "no"}
    path = write_recipe(
        runs=str(runs),
        truncation={"max_length": 96},
        wrpo={
            "reference": "model",
            "global_batch_size": 4,
            "train": train,
            "engine": {"per_device_batch_size": 2, **engine},
        },
    )
    pipeline = Pipeline(load_recipe(path))
    rows = [{"prompt_id": row["triple_id"], **row} for row in make_triples(12)]
    triples = StageFolder(pipeline.folder("build/triples"), pipeline.key("build/triples"))
    triples.open()
    triples.finish_parts(triples.write_table(rows, TRIPLES))
    sft = StageFolder(pipeline.folder("sft"), pipeline.key("sft"))
    shutil.copytree(target, sft.path / "model")
    sft.finish()
    return path, pipeline


@pytest.mark.slow
def test_recipe_starts_two_processes_that_train_like_one(
    write_recipe, run_module, tiny_models_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    engines = {
        "one": {},
        "two": {"accelerate": str(ROOT / "recipes/accelerate/ddp.yaml"), "processes": 2},
    }
    histories = []
    for name, engine in engines.items():
        path, pipeline = recipe_with_inputs(
            write_recipe, tiny_models_folder / "target", runs=tmp_path / name, **engine
        )
        result = run_module("wrpo.train", "--recipe", path)
        assert result.returncode == 0, result.stderr[-3000:]
        steps = 1 if name == "two" else 2
        assert f"{steps} accumulation steps" in result.stderr
        assert (pipeline.folder("wrpo") / "model" / "model.safetensors").is_file()
        history = json.loads((pipeline.folder("wrpo") / "log_history.json").read_text())
        histories.append([row["loss"] for row in history if "loss" in row])
    assert len(histories[0]) == STEPS
    assert histories[1] == pytest.approx(histories[0], rel=1e-5)


ALONE = """
import atexit, weakref
import torch
from torch import distributed
from wrpo.training.launch import leave_process_group
distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))
group = weakref.ref(distributed.group.WORLD)
leave_process_group()
assert not distributed.is_initialized()
assert group() is not None, "the model would be the last to let the group go"
model.itself = model
del model
atexit._run_exitfuncs()
assert group() is None, "its threads run on"
"""


def test_a_process_group_outlives_the_models_that_used_it() -> None:
    command = Command("-c", ALONE, env={**environment(), "WORLD_SIZE": "1"})
    assert command.wait() == 0, command.stderr

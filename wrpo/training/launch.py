"""A training stage under `accelerate launch`: how it is started and how its processes end."""

from __future__ import annotations

import atexit
import gc
import os
import sys

from wrpo.errors import RecipeError
from wrpo.files import is_file
from wrpo.training.settings import TrainingEngine


def relaunch_under_accelerate(engine: TrainingEngine, module: str) -> None:
    """Replaces this process by `accelerate launch -m MODULE`, unless it runs under one already.

    Raises:
        RecipeError: the config file is not there.
    """
    config = engine.accelerate_file
    if config is None or "LOCAL_RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ:
        return
    if not is_file(config):
        raise RecipeError(f"engine.accelerate: no file {config}")
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    # The trainer's bf16 and fp16 decide; what the config says would win over `bf16: false`.
    launcher += ["--mixed_precision", "no"]
    if engine.processes is not None:
        launcher += ["--num_processes", str(engine.processes)]
    os.execv(sys.executable, [*launcher, "-m", module, *sys.argv[1:]])


def leave_process_group() -> None:
    """Ends this process's part in distributed training, if it had one; the last thing it does.

    A process that exits without it may abort after its work is done, because Gloo's threads are
    still running, and the launcher then reports a failure (pytorch/pytorch#190489).
    """
    if "WORLD_SIZE" not in os.environ:
        return
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        # The end of a Gloo group waits for its threads, and they may wait for the interpreter's
        # lock to let go of a tensor. Only Python's reference gives the lock away, so it has to be
        # the last: the gradient buckets of a trainer that dies later would wait for ever.
        atexit.register(_let_go, [distributed.group.WORLD])
        distributed.destroy_process_group()


def _let_go(groups: list[object]) -> None:
    gc.collect()
    groups.clear()

"""Lets DeepSpeed and FSDP2 run on processes without GPUs, which accelerate does not offer."""

import os
from importlib import import_module

import torch
from accelerate import PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType

CONFIGURED = {"use_cpu": False, "accelerator_config": {"use_configured_state": True}}


def prepare_state(way: str) -> dict[str, object]:
    """Set accelerate's state up for `way` (one, ddp, zero2, zero3, fsdp2), for one trainer.

    Returns the training arguments that go with it; GPUs need no help. Must run before any
    TrainingArguments are made.
    """
    AcceleratorState._reset_state()  # one that is set up refuses a second trainer's plugin
    if torch.cuda.is_available():
        return {"bf16": True}
    if way in ("zero2", "zero3"):
        # It would compile C++ for minutes; gloo does its work. The package's attribute of this name
        # is torch itself.
        import_module("deepspeed.comm.torch").build_shm_op = lambda: None
        PartialState(backend="gloo")
        return CONFIGURED
    if way == "fsdp2":
        # accelerate shards on accelerators only. With this type it believes to have one, and takes
        # the device of the processes, a CPU, from the state.
        PartialState(cpu=True, backend="gloo").distributed_type = DistributedType.MULTI_XPU
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        return CONFIGURED
    return {"use_cpu": True}

"""Memory per GPU of a stage, in GiB by what takes it; estimates that leave out the CUDA context."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wrpo.engines.base import Capacity
from wrpo.errors import RecipeError
from wrpo.plan.formulas import (
    DIVIDED,
    GIB,
    OFFLOADED,
    activation_bytes,
    kv_bytes,
    short,
    training_state_bytes,
)
from wrpo.plan.model_shape import Shape
from wrpo.recipe.sampling import Model
from wrpo.recipe.yaml_source import read_yaml
from wrpo.training.settings import AUTO, CPU_TOKENS, MOST_TOKENS, PLANNED_SHARE, Training

_QUANTISED = {"fp8": 1.0, "int8": 1.0, "w8a8": 1.0, "awq": 0.55, "gptq": 0.55, "bitsandbytes": 0.55}
"""Bytes per weight of vLLM's methods; four bits and their scales are a little over half a byte."""
_FROZEN = {"nf4": 0.55, "int8": 1.0, None: 4.0}
_ADAM, _ADAM_8BIT = 8.0, 2.0
_ADAPTED_MATRICES = 7
"""Linear layers of a transformer layer that get adapters by default."""


@dataclass(frozen=True)
class Memory:
    """GiB per GPU by part, where each part is from, and what else is worth saying."""

    parts: dict[str, float]
    note: str = ""
    origin: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """GiB per GPU."""
        return sum(self.parts.values())

    def text(self) -> str:
        """The sum with its parts; what is shown adds up."""
        shown = " + ".join(
            f"{name} {size:,.1f}{f' ({self.origin[name]})' if name in self.origin else ''}"
            for name, size in self.parts.items()
        )
        total = sum(round(size, 1) for size in self.parts.values())
        note = f"; {self.note}" if self.note else ""
        return f"memory per GPU in GiB: {shown} = {total:,.1f}{note}"


@dataclass(frozen=True)
class Processes:
    """How a training stage is spread: GPUs, and what they divide among them."""

    gpus: int
    sharded: str
    offloaded: bool = False


def weight_bytes(entry: Model) -> float:
    """Bytes per parameter while sampling."""
    if entry.quantization:
        return next((b for name, b in _QUANTISED.items() if name in entry.quantization), 1.0)
    return 4.0 if entry.dtype == "float32" else 2.0


def sampling_memory(
    shape: Shape,
    entry: Model,
    capacity: Capacity,
    *,
    context: float,
    longest: int,
    available: float,
    advice: str,
) -> Memory:
    """Weights, and a cache for as many sequences as are decoded together.

    context: mean tokens of a sequence; longest: most tokens of one; available: GiB of a GPU;
    advice: what to do where it does not fit.
    """
    gpus = capacity.gpus
    weights = shape.parameters * weight_bytes(entry) / gpus / GIB
    cache = kv_bytes(shape) / gpus / GIB
    wanted = capacity.sequences * context * cache
    divided = f" / {gpus} GPUs" if gpus > 1 else ""
    origin = {
        "weights": f"{short(shape.parameters)} x {weight_bytes(entry):g} bytes{divided}",
        "cache": f"{short(context)} tokens x {short(kv_bytes(shape))} bytes{divided}",
    }
    room = available * capacity.memory_share - weights
    if room < longest * cache:
        note = (
            f"does not fit: {available:g} GiB x {capacity.memory_share:g} leaves "
            f"{room:,.1f} for the cache, and one sequence of {longest} tokens needs "
            f"{longest * cache:,.1f}; {advice}"
        )
        origin["cache"] = f"{capacity.sequences} sequences x " + origin["cache"]
        return Memory({"weights": weights, "cache": wanted}, note, origin)
    together = min(capacity.sequences, int(room / (context * cache)))
    note = f"room for {together} of {capacity.sequences} sequences of {context:,.0f} tokens"
    origin["cache"] = f"{together} sequences x " + origin["cache"]
    return Memory({"weights": weights, "cache": together * context * cache}, note, origin)


def scoring_memory(shape: Shape, *, bytes_per_weight: float, tokens: int | None) -> Memory:
    """Weights, and one layer's activations of a batch; None: of the first, which then grow."""
    grows = "" if tokens else ", more where there is room"
    tokens = tokens or CPU_TOKENS
    batch_origin = f"17 x {tokens:,} tokens x {shape.hidden:,} wide x 2 bytes{grows}"
    batch = activation_bytes(shape, tokens=tokens, checkpointing=False, bytes_per_number=2)
    return Memory(
        {
            "weights": shape.parameters * bytes_per_weight / GIB,
            "one layer of a batch": batch / shape.layers / GIB,
        },
        origin={
            "weights": f"{short(shape.parameters)} x {bytes_per_weight:g} bytes",
            "one layer of a batch": batch_origin,
        },
    )


def training_memory(
    shape: Shape,
    settings: Training,
    *,
    row_tokens: float,
    processes: Processes,
    second_model: bool = False,
) -> Memory:
    """Weights, gradients, optimizer state, activations; `second_model`: a reference beside it."""
    lora = settings.lora
    trained = adapter_parameters(shape, lora.r) if lora else shape.parameters
    total = shape.parameters + (trained if lora else 0)
    state = training_state_bytes(
        total,
        trained=trained,
        optimizer_bytes=_optimizer_bytes(settings),
        gpus=processes.gpus,
        sharded=processes.sharded,
        offloaded=processes.offloaded,
        frozen_bytes=_FROZEN[lora.quantize] if lora else 4.0,
    )
    origin = _state_origin(settings, processes)
    tokens = micro_batch(settings, row_tokens)
    state["activations"] = activation_bytes(
        shape,
        tokens=tokens,
        checkpointing=checkpointing(settings),
        bytes_per_number=2 if half_precision(settings) else 4,
    )
    origin["activations"] = f"{tokens:,.0f} tokens"
    if settings.engine.per_device_batch_size == AUTO and not settings.engine.batch_tokens:
        origin["activations"] += ", more where there is room"
    if second_model and not lora:  # adapters are switched off for the reference instead
        divided = processes.gpus if processes.sharded == "all" else 1
        state["reference"] = 4 * shape.parameters / divided
    what = f"{short(trained)} of {short(total)} parameters are trained"
    note = f"{what}; {processes.gpus} GPUs, divided among them: {processes.sharded}"
    if processes.offloaded:
        host = (4 + _optimizer_bytes(settings)) * trained / GIB
        note += f"; in the host's memory: {host:,.0f} GiB of optimizer and weights"
    return Memory({name: size / GIB for name, size in state.items()}, note, origin)


def micro_batch(
    settings: Training, row_tokens: float, *, memory: Memory | None = None, room: float = 0.0
) -> float:
    """Tokens of a forward pass; the first ones of a budget that grows with the memory left.

    memory: of the stage with the first budget; what the budget grows to follows from it.
    room: GiB of a GPU.
    """
    engine = settings.engine
    if isinstance(engine.per_device_batch_size, int):
        return row_tokens * engine.per_device_batch_size
    first = max(row_tokens, engine.batch_tokens or CPU_TOKENS)
    if engine.batch_tokens or memory is None:
        return first
    taken = memory.parts["activations"]
    left = PLANNED_SHARE * room - (memory.total - taken)
    most = settings.global_batch_size * row_tokens / processes_of(settings).gpus
    return max(first, min(first * left / taken, MOST_TOKENS, most))


def _state_origin(settings: Training, processes: Processes) -> dict[str, str]:
    """Bytes of one parameter, and over how many GPUs they are divided."""
    if processes.offloaded:
        return dict.fromkeys(("weights", "gradients"), f"{OFFLOADED:g} bytes")
    each = {
        "weights": _FROZEN[settings.lora.quantize] if settings.lora else 4.0,
        "gradients": 4.0,
        "optimizer": _optimizer_bytes(settings),
    }
    divided = DIVIDED[processes.sharded]
    return {
        name: f"{size:g} bytes" + (f" / {processes.gpus}" if name in divided else "")
        for name, size in each.items()
    }


def _optimizer_bytes(settings: Training) -> float:
    return _ADAM_8BIT if "8bit" in str(settings.train.get("optim", "")) else _ADAM


def adapter_parameters(shape: Shape, rank: int) -> float:
    """About two matrices of width x rank for each linear layer."""
    return 2.0 * rank * shape.hidden * _ADAPTED_MATRICES * shape.layers


def checkpointing(settings: Training) -> bool:
    """TRL's default is on."""
    return bool(settings.train.get("gradient_checkpointing", True))


def half_precision(settings: Training) -> bool:
    """TRL's default is bfloat16."""
    train = settings.train
    return bool(train.get("fp16")) or train.get("bf16") is not False


def processes_of(settings: Training) -> Processes:
    """From the accelerate config that the recipe names; one GPU where it names none."""
    path = settings.engine.accelerate_file
    if path is None or not Path(path).is_file():
        return Processes(settings.engine.processes or 1, "nothing")
    try:
        config: dict[str, Any] = read_yaml(path).value
    except RecipeError:
        return Processes(settings.engine.processes or 1, "nothing")
    gpus = settings.engine.processes or int(config.get("num_processes") or 1)
    kind = str(config.get("distributed_type", "")).upper()
    if kind == "FSDP":
        whole = (config.get("fsdp_config") or {}).get("fsdp_reshard_after_forward") is not False
        return Processes(gpus, "all" if whole else "gradients")
    if kind == "DEEPSPEED":
        options = config.get("deepspeed_config") or {}
        stage = int(options.get("zero_stage") or 0)
        offloaded = options.get("offload_optimizer_device") in ("cpu", "nvme")
        return Processes(gpus, ["nothing", "optimizer", "gradients", "all"][stage], offloaded)
    return Processes(gpus, "nothing")

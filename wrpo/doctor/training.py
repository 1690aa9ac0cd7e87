"""Batches, accelerate configs and attention kernels of the training stages."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from wrpo.doctor.checks import CheckContext, Finding
from wrpo.doctor.environment import trained_sections
from wrpo.errors import RecipeError
from wrpo.plan.memory import processes_of
from wrpo.plan.throughput import devices
from wrpo.training.settings import Training


def training_checks(context: CheckContext) -> Iterator[Finding]:
    """Every stage that trains."""
    for place, settings in trained_sections(context.recipe).items():
        found = [*_processes(place, settings), *_attention(place, settings)]
        yield from found
        if not found:
            count = processes_of(settings).gpus
            per_device = settings.engine.per_device_batch_size
            message = f"{settings.global_batch_size} rows per step on {count} x {per_device}"
            yield Finding("ok", f"training {place}", message)


def _processes(place: str, settings: Training) -> Iterator[Finding]:
    from wrpo.training.common import accumulation_steps

    subject, config = f"training {place}", settings.engine.accelerate_file
    if config is not None and not config.is_file():
        yield Finding("problem", subject, f"engine.accelerate: no file {config}")
        return
    if config is not None and "DEEPSPEED" in config.read_text(encoding="utf-8"):
        yield from _deepspeed(subject, config)
    count = processes_of(settings).gpus
    try:
        accumulation_steps(settings, processes=count)
    except RecipeError as error:
        yield Finding("problem", subject, str(error))
    if count > max(len(devices()), 1):
        message = f"{config} starts {count} processes, this machine has {len(devices())} GPUs"
        remedy = f"{place}.engine.processes={max(len(devices()), 1)}, or train elsewhere"
        yield Finding("problem" if devices() else "warning", subject, message, remedy)


def _deepspeed(subject: str, config: Path) -> Iterator[Finding]:
    if importlib.util.find_spec("deepspeed") is None:
        message = f"{config} needs deepspeed, which is not installed"
        yield Finding("problem", subject, message, "pip install 'wrpo[deepspeed]'")


def _attention(place: str, settings: Training) -> Iterator[Finding]:
    subject, kernel = f"training {place}", settings.engine.attention
    if kernel == "varlen" and not devices():
        yield Finding("warning", subject, "engine.attention: varlen needs a GPU")
    if kernel is None or not kernel.startswith("flash_attention"):
        return
    if importlib.util.find_spec("flash_attn") is None:
        message = f"engine.attention: {kernel} needs flash-attn, which is not installed"
        remedy = "pip install flash-attn --no-build-isolation, or engine.attention=auto"
        yield Finding("problem" if devices() else "warning", subject, message, remedy)
    elif not devices():
        yield Finding("warning", subject, f"engine.attention: {kernel} needs a GPU")

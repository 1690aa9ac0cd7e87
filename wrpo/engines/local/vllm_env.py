"""The environment variables with which vLLM runs here; it and torch read them when imported."""

from __future__ import annotations

import logging
import os
import shutil
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wrpo.errors import ModelError

logger = logging.getLogger(__name__)

INSTALL = (
    "install it: make setup in a checkout, pip install 'wrpo[vllm]' elsewhere; or draw responses "
    "by `engine: {backend: transformers}`"
)
_OF_FREE = 0.8
"""Of the free memory; the rest is for what vLLM takes beside its share, and for others."""


def prepare_environment(*, eager: bool) -> None:
    """Makes vLLM quiet, and fast on CPU; call it before torch or vllm is imported.

    eager: whether the engine that will be loaded compiles nothing (`enforce_eager`).

    Raises:
        ModelError: vLLM is not installed.
    """
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if not on_cpu():
        return
    # Idle OpenMP threads spin and starve a small machine.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    if "TORCH_COMPILE_DISABLE" in os.environ:
        return
    if eager:
        # vLLM compiles the counting of ranks for log-probs even then, for half a minute.
        os.environ["TORCH_COMPILE_DISABLE"] = "1"
    elif not _can_compile():
        logger.warning("no g++ with Python's headers: vLLM runs without compiling, which is slower")
        os.environ["TORCH_COMPILE_DISABLE"] = "1"


def on_cpu() -> bool:
    """Whether the installed vLLM is a CPU build; asks its version, as vLLM itself does.

    Raises:
        ModelError: vLLM is not installed.
    """
    try:
        return "cpu" in version("vllm")
    except PackageNotFoundError:
        raise ModelError(f"vLLM is not installed; {INSTALL}") from None


def memory_share(wanted: float) -> float:
    """The share of memory that vLLM is asked to take: on a CPU, no more than most of what is free.

    There vLLM reserves a share of all memory and refuses to start where less is free.
    """
    if not on_cpu():
        return wanted
    import psutil

    memory = psutil.virtual_memory()
    return min(wanted, _OF_FREE * memory.available / memory.total)


def memory_advice(error: BaseException) -> str:
    """Which keys of the recipe help where vLLM wants more memory than a CPU machine has free."""
    if not on_cpu() or "memory" not in str(error).lower():
        return ""
    return (
        ". In a recipe: engine.kv_cache_mib, e.g. `sample: {engine: {kv_cache_mib: 512}}`, takes "
        "so much for the KV cache instead of a share; engine.gpu_memory_utilization is that share"
    )


def _can_compile() -> bool:
    """Whether torch.compile finds what it needs on a CPU."""
    headers = Path(sysconfig.get_path("include"))
    return shutil.which("g++") is not None and (headers / "Python.h").is_file()

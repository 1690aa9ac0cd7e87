"""LoRA adapters: where the files are, and what an engine has to know of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wrpo.errors import ModelError, raise_if_of_system

_WEIGHTS = "adapter_model.safetensors"


def adapter_folder(adapter: str) -> Path:
    """The folder of an adapter; one from the hub is downloaded.

    Raises:
        ModelError: it is not there, or is not a LoRA adapter with safetensors weights.
    """
    folder = Path(adapter)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        try:
            patterns = ["adapter_config.json", _WEIGHTS]
            folder = Path(snapshot_download(adapter, allow_patterns=patterns))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"adapter {adapter}: no such folder, nor on the hub: {error}"
            ) from error
    if not (folder / _WEIGHTS).is_file():
        raise ModelError(f"adapter {adapter}: {folder} has no {_WEIGHTS}")
    if _config(folder).get("peft_type") != "LORA":
        raise ModelError(f"adapter {adapter}: {folder}/adapter_config.json is of no LoRA adapter")
    return folder.resolve()


def lora_rank(folder: Path) -> int:
    """The highest rank of any of the adapter's matrices."""
    config = _config(folder)
    return max([config["r"], *(config.get("rank_pattern") or {}).values()])


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        config["r"]
    except (OSError, ValueError, KeyError) as error:
        raise_if_of_system(error, path)
        raise ModelError(f"{path}: not the config of a LoRA adapter ({error!r})") from None
    return config

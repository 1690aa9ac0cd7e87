"""Size and shape of a model without loading it: from its files, or guessed from its size.

Hub models are looked up in the local cache only.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wrpo.files import is_folder, looks_local

_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)[bB](?![A-Za-z0-9])")
_LAYER_WIDTHS = 12
"""A layer of a transformer has about 12 x width^2 parameters."""
_WIDTH_PER_LAYER = 128
"""Dense models of 1B to 100B are about 128 times as wide as deep."""


@dataclass(frozen=True)
class Shape:
    """What cost and memory depend on.

    Attributes:
        parameters: all of them.
        active: those that one token uses; fewer than `parameters` in a mixture of experts.
        hidden: width of the residual stream.
        kv_width: numbers that one token keeps per layer, keys and values together.
        attention_width: heads x size of a head.
        basis: where this is from, for the reader of a plan.
    """

    parameters: float
    active: float
    layers: int
    hidden: int
    kv_width: int
    attention_width: int
    basis: str

    @property
    def decode_billions(self) -> float:
        """The dense size that decodes about as fast.

        A full batch of a mixture of experts reads most experts but computes with few: the
        geometric mean of both sizes, an estimate of ours.
        """
        return math.sqrt(self.parameters * self.active) / 1e9


def shape_of(
    model: str,
    *,
    revision: str | None = None,
    parameters_b: float | None = None,
    active_b: float | None = None,
) -> Shape | None:
    """The shape of a model, or None where neither files nor a size nor its name tell it."""
    folder = _folder(model, revision)
    config = _read_json(folder / "config.json") if folder else None
    counted = _count_parameters(folder) if folder else None
    named = _IN_NAME.findall(model.rsplit("/", 1)[-1])
    if parameters_b is not None:
        parameters, basis = parameters_b * 1e9, "parameters_b"
    elif counted:
        parameters, basis = float(counted), "its safetensors files"
    elif named:
        parameters, basis = float(named[-1]) * 1e9, f'"{named[-1]}B" in its name'
    else:
        return None
    active = active_b * 1e9 if active_b is not None else parameters
    if config and (known := _from_config(config, parameters, active, basis)):
        return known
    return _guessed(parameters, active, basis)


def _from_config(
    config: dict[str, Any], parameters: float, active: float, basis: str
) -> Shape | None:
    config = config.get("text_config") or config
    try:
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        head = int(config.get("head_dim") or hidden // heads)
        kv_heads = int(config.get("num_key_value_heads") or heads)
        layers = int(config["num_hidden_layers"])
    except (KeyError, TypeError, ValueError):
        return None
    kv_width = 2 * kv_heads * head
    if config.get("kv_lora_rank"):  # DeepSeek keeps one compressed vector per token
        kv_width = int(config["kv_lora_rank"]) + int(config.get("qk_rope_head_dim") or 0)
    basis = f"size from {basis}, shape from config.json"
    return Shape(parameters, active, layers, hidden, kv_width, heads * head, basis)


def _guessed(parameters: float, active: float, basis: str) -> Shape:
    """A dense model of that size: 12 x layers x width^2 parameters, 8 key-value heads of 128."""
    per_cube = _LAYER_WIDTHS * _WIDTH_PER_LAYER**2
    layers = max(1, round((parameters / per_cube) ** (1 / 3)))
    hidden = max(1, round(math.sqrt(parameters / (_LAYER_WIDTHS * layers))))
    kv_width = min(2 * hidden, 2 * 8 * 128)
    basis = f"size from {basis}, shape guessed from the size"
    return Shape(parameters, active, layers, hidden, kv_width, hidden, basis)


def _folder(model: str, revision: str | None) -> Path | None:
    if is_folder(Path(model)):
        return Path(model)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def _count_parameters(folder: Path) -> int | None:
    """Numbers in all tensors of the safetensors files; quantised weights count as stored."""
    files = sorted(folder.glob("*.safetensors"))
    index = _read_json(folder / "model.safetensors.index.json")
    if index and len(set(index.get("weight_map", {}).values())) > len(files):
        return None
    total = 0
    for file in files:
        header = _safetensors_header(file)
        if header is None:
            return None
        total += sum(math.prod(tensor["shape"]) for tensor in header.values())
    return total or None


def _safetensors_header(path: Path) -> dict[str, Any] | None:
    """Tensors by name: dtype and shape, without reading any of them."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > 100 << 20:
                return None
            header: dict[str, Any] = json.loads(file.read(size))
    except (OSError, ValueError, struct.error):
        return None
    header.pop("__metadata__", None)
    return header


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None


_TINY_WORLD = re.compile(r"(?P<world>(?:.*/)?tiny-world/seed-(?P<seed>\d+))/\w+")


def unknown_size(model: str, advice: str) -> str:
    """The reason in one line; the same for all models of a tiny world that is not made yet.

    Args:
        model: hub id or folder.
        advice: what helps where the model is not a folder that is missing.
    """
    if not looks_local(model) or is_folder(Path(model).expanduser()):
        return f"size of {model} unknown: {advice}"
    found = _TINY_WORLD.fullmatch(model)
    if found:
        command = f"python -m tiny_world --seed {found['seed']} --out {found['world']}"
        return f"make the world first ({command})"
    return f"there is no folder {model} yet"

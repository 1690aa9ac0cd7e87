"""Weights of model folders, read and written one tensor at a time.

A safetensors file is the length of its header, the header as JSON, and the bytes of all tensors. So
a file whose tensors are known by name, type and shape can be written as they come, and never more
than one merged tensor is in memory.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wrpo.errors import ModelError, loading_failures
from wrpo.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

_ALIGNED = 8
"""Bytes; the tensors of a file begin at a multiple of it."""


class Slot(NamedTuple):
    """A tensor of a file: its name, its type as safetensors calls it, its shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class Weights:
    """The tensors of one model folder.

    Raises:
        ModelError: it has no safetensors weights, or they cannot be read.
    """

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        from safetensors import safe_open

        self.folder = folder
        self.files: dict[str, Any] = {}
        self._file_of: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                file = opened.enter_context(safe_open(str(path), framework="pt"))
            except loading_failures() as error:
                raise ModelError(
                    f"{path}: cannot be read ({error}); make the model again"
                ) from None
            self.files[path.name] = file
            self._file_of |= dict.fromkeys(file.keys(), file)
        if not self._file_of:
            raise ModelError(f"{folder}: holds no weights in safetensors; make the model again")

    @property
    def names(self) -> set[str]:
        """Of all tensors."""
        return set(self._file_of)

    def __getitem__(self, name: str) -> Tensor:
        """One tensor, read from disk."""
        tensor: Tensor = self._file_of[name].get_tensor(name)
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """Without reading the tensor."""
        return tuple(self._file_of[name].get_slice(name).get_shape())

    def slots(self, file: str) -> list[Slot]:
        """The tensors of one of its files, by name."""
        opened = self.files[file]
        return [
            Slot(name, opened.get_slice(name).get_dtype(), self.shape(name))
            for name in sorted(opened.keys())
        ]


def require_same_tensors(base: Weights, other: Weights) -> None:
    """Merging needs models of one shape.

    Raises:
        ModelError: names and shapes differ; says the first tensor.
    """
    if lacking := sorted(base.names ^ other.names):
        has, lacks = (base, other) if lacking[0] in base.names else (other, base)
        raise ModelError(
            f"models of different tensors cannot be merged: {has.folder} has {lacking[0]}, and "
            f"{lacks.folder} has not; train all of them from one model and with the same lora"
        )
    for name in sorted(base.names):
        if base.shape(name) != other.shape(name):
            raise ModelError(
                f"models of different shapes cannot be merged: {name} is {base.shape(name)} in "
                f"{base.folder} and {other.shape(name)} in {other.folder}"
            )


def write_like(base: Weights, output: Path, make: Callable[[str], Tensor]) -> int:
    """Writes a folder with the files of `base`, in which the tensors are those that `make` gives.

    Args:
        make: a tensor by its name, in the type and shape that the base's has.

    Returns:
        How many tensors were written.
    """
    output.mkdir(parents=True, exist_ok=True)
    for path in sorted(base.folder.iterdir()):
        if path.is_file() and path.name not in base.files:
            shutil.copyfile(path, output / path.name)
    for file in base.files:
        slots = base.slots(file)
        write_tensors(output / file, slots, (make(slot.name) for slot in slots))
    return len(base.names)


def write_tensors(path: Path, slots: list[Slot], tensors: Iterator[Tensor]) -> None:
    """A safetensors file, written as its tensors come."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for slot in slots:
        start, end = end, end + _bytes(slot)
        header[slot.name] = {
            "dtype": slot.dtype,
            "shape": list(slot.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGNED)
    with replacing(path) as partial, partial.open("wb") as handle:
        handle.write(struct.pack("<Q", len(text)) + text)
        for slot, tensor in zip(slots, tensors, strict=True):
            handle.write(_content(slot, tensor))


def _content(slot: Slot, tensor: Tensor) -> memoryview:
    import torch

    if tuple(tensor.shape) != slot.shape:
        raise AssertionError(f"{slot.name} is {tuple(tensor.shape)}, not {slot.shape}")
    flat = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    if flat.nbytes != _bytes(slot):
        raise AssertionError(f"{slot.name} has {flat.nbytes} bytes, not {_bytes(slot)}")
    return flat.data


def _bytes(slot: Slot) -> int:
    """Bytes of a tensor; the number in the name of its type is the bits of one entry."""
    bits = (
        8 if slot.dtype == "BOOL" else int("".join(filter(str.isdigit, slot.dtype.split("_")[0])))
    )
    count = 1
    for size in slot.shape:
        count *= size
    return count * bits // 8

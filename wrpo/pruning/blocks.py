"""The residual blocks of a decoder: attention and MLP of each layer, taken out and put back.

A removed block adds nothing to the residual stream. A heavy import.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from wrpo.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REMOVED = "removed_blocks"
"""Key of config.json: the blocks that are in the file with zero weights, in order of removal."""

_OUTPUTS = {"attention": ("o_proj", "out_proj", "dense"), "mlp": ("down_proj", "fc2")}
"""What the last matrix of a block is called."""


class ResidualBlock(NamedTuple):
    """Half of a layer: `part` is attention or mlp; in text, "attention 3"."""

    part: str
    layer: int

    def __str__(self) -> str:
        return f"{self.part} {self.layer}"


class NullAttention(nn.Module):
    """Attention that adds nothing."""

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> tuple[torch.Tensor, None]:
        """Zeros of the shape of its input, and no attention weights."""
        return torch.zeros_like(hidden_states), None


class NullMLP(nn.Module):
    """An MLP that adds nothing."""

    def forward(self, hidden_states: torch.Tensor, **_: Any) -> torch.Tensor:
        """Zeros of the shape of its input."""
        return torch.zeros_like(hidden_states)


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The decoder layers.

    Raises:
        ModelError: the model has no list of layers, each with `self_attn` and `mlp`.
    """
    layers = getattr(model.get_decoder(), "layers", None)
    for layer in layers if isinstance(layers, nn.ModuleList) else [None]:
        if not (hasattr(layer, "self_attn") and hasattr(layer, "mlp")):
            raise ModelError(
                f"{type(model).__name__} has no layers of self_attn and mlp, which pruning knows; "
                "prune a model of another architecture, or leave `prune` out"
            )
    assert isinstance(layers, nn.ModuleList)
    return layers


def blocks_of(model: PreTrainedModel, parts: Iterable[str]) -> list[ResidualBlock]:
    """All blocks of some parts, by layer."""
    parts = tuple(parts)
    return [ResidualBlock(part, n) for n in range(len(layers_of(model))) for part in parts]


@contextmanager
def without(model: PreTrainedModel, blocks: Iterable[ResidualBlock]) -> Iterator[None]:
    """The model without some blocks, which come back afterwards."""
    layers = layers_of(model)
    taken: list[tuple[Any, str, nn.Module]] = []
    try:
        for block in blocks:
            name = "self_attn" if block.part == "attention" else "mlp"
            null = NullAttention() if block.part == "attention" else NullMLP()
            taken.append((layers[block.layer], name, getattr(layers[block.layer], name)))
            setattr(layers[block.layer], name, null)
        yield
    finally:
        for layer, name, module in reversed(taken):
            setattr(layer, name, module)


def output_of(model: PreTrainedModel, block: ResidualBlock) -> nn.Module:
    """The last matrix of a block: where it is zero, the block adds nothing.

    Raises:
        ModelError: the block has none of a known name, as a mixture of experts.
    """
    layer = layers_of(model)[block.layer]
    module = layer.self_attn if block.part == "attention" else layer.mlp
    for name in _OUTPUTS[block.part]:
        if isinstance(getattr(module, name, None), nn.Module):
            found: nn.Module = getattr(module, name)
            return found
    raise ModelError(
        f"{type(model).__name__}: no last matrix of {block} is known; set prune.blocks to layers"
    )


def freeze_removed(model: PreTrainedModel) -> int:
    """Keeps removed blocks out of training, so that their weights stay zero; counts them."""
    removed = [
        ResidualBlock(part, layer) for part, layer in getattr(model.config, REMOVED, None) or []
    ]
    for block in removed:
        output_of(model, block).requires_grad_(False)
    return len(removed)

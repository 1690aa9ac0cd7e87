"""A pruned model as a folder that transformers and vLLM load. A heavy import.

A standard checkpoint cannot say "half a layer". A layer of which both blocks are removed is left
out. A block that is removed alone stays in the file with a last matrix of zeros, which is the same
function in every library, and no faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from wrpo.errors import ModelError
from wrpo.pruning.blocks import REMOVED, ResidualBlock, layers_of, output_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def save_pruned(
    model: PreTrainedModel, removed: Sequence[ResidualBlock], folder: Path
) -> list[ResidualBlock]:
    """Takes the blocks out of the model for good, and saves it.

    Returns:
        The blocks that are in the file with zero weights, numbered by the layers of the file.

    Raises:
        ModelError: no layer would be left, or half a layer cannot be taken from this architecture.
    """
    whole = {block.layer for block in removed if _both(block.layer, removed)}
    if len(whole) == len(layers_of(model)):
        raise ModelError("all layers would be removed; lower prune.remove")
    for block in removed:
        if block.layer not in whole:
            with torch.no_grad():
                for parameter in output_of(model, block).parameters():
                    parameter.zero_()
    number = _drop_layers(model, whole)
    halves = [
        ResidualBlock(one.part, number[one.layer]) for one in removed if one.layer not in whole
    ]
    if halves:
        setattr(model.config, REMOVED, [list(block) for block in halves])
    model.save_pretrained(folder)
    return halves


def _both(layer: int, removed: Sequence[ResidualBlock]) -> bool:
    return {ResidualBlock("attention", layer), ResidualBlock("mlp", layer)} <= set(removed)


def _drop_layers(model: PreTrainedModel, gone: set[int]) -> dict[int, int]:
    """Leaves layers out of the model and its config; gives the new number of each that stays."""
    layers = layers_of(model)
    before = len(layers)
    kept = [n for n in range(before) if n not in gone]
    config: Any = model.config.get_text_config(decoder=True)
    for name, value in config.to_dict().items():
        if isinstance(value, list) and len(value) == before and gone:
            setattr(config, name, [value[n] for n in kept])  # e.g. layer_types, one per layer
    config.num_hidden_layers = len(kept)
    model.get_decoder().layers = nn.ModuleList([layers[n] for n in kept])
    for number, layer in enumerate(model.get_decoder().layers):
        layer.self_attn.layer_idx = number  # where its keys are cached
    return {old: new for new, old in enumerate(kept)}

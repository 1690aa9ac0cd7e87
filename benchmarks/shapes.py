"""Random models of known shapes, the arithmetic of a training step on them, and devices' peaks."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from wrpo.prefix.packing import are_segments


@dataclass(frozen=True)
class Shape:
    """What decides the arithmetic of a decoder; `family` is that of the real model."""

    family: type[Any]
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tied: bool = False

    def sizes(self) -> dict[str, int]:
        """Fields of the config of a model of this shape."""
        return {
            "vocab_size": self.vocabulary,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "max_position_embeddings": 8192,
            "pad_token_id": 0,
        }

    def with_layers(self, layers: int | None) -> "Shape":
        return self if layers is None else replace(self, layers=layers)


# The LM head of tiny has 7.6 % of the weights of its layers, as in Llama-3-8B.
SHAPES = {
    "tiny": Shape(LlamaConfig, 384, 1024, 2, 6, 6, 704),
    "0.5b": Shape(Qwen2Config, 896, 4864, 24, 14, 2, 151936, tied=True),
    "1.5b": Shape(Qwen2Config, 1536, 8960, 28, 12, 2, 151936, tied=True),
    "8b": Shape(LlamaConfig, 4096, 14336, 32, 32, 8, 128256),
}

# Dense bfloat16 matrix products without sparsity, operations per second, from the data sheets.
_PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}


def random_model(shape: Shape, *, seed: int, device: str, attention: str) -> Any:
    """A causal language model with random weights: float32 on the CPU, bfloat16 elsewhere."""
    config = shape.family(**shape.sizes(), tie_word_embeddings=shape.tied)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    torch.manual_seed(seed)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)


def step_operations(shape: Shape, *, tokens: int, scored: int, pairs: int) -> int:
    """Floating-point operations of forward and backward of a policy and forward of a reference.

    tokens: positions that go through the layers, padding included.
    scored: positions that go through the LM head.
    pairs: (query, key) pairs of causal attention.

    Two operations per weight and token forward, four backward; recomputation does not count.
    """
    head_dim = shape.hidden // shape.heads
    attention = shape.hidden * (2 * shape.hidden + 2 * shape.key_value_heads * head_dim)
    layer = attention + 3 * shape.hidden * shape.intermediate
    linear = tokens * shape.layers * layer + scored * shape.hidden * shape.vocabulary
    return 8 * linear + 16 * pairs * shape.hidden * shape.layers


def attention_pairs(batch: dict[str, Tensor]) -> int:
    """(query, key) pairs of causal attention in a batch, padding included."""
    table = batch["attention_mask"]
    if are_segments(table):
        own, _, shared = table[0, 0].unbind(dim=1)
        return int((own * (own + 1) // 2 + own * shared).sum())
    rows, width = batch["input_ids"].shape
    return rows * width * (width + 1) // 2


def peak(device: str) -> float | None:
    """Operations per second that the device can do in bfloat16; None if not in the table."""
    if device == "cpu":
        return None
    name = torch.cuda.get_device_name()
    return next((value for key, value in _PEAKS.items() if key in name), None)

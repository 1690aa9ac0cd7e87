"""The formulas of a plan, as pure functions: operations, seconds, bytes."""

from __future__ import annotations

from collections.abc import Sequence

from wrpo.plan.model_shape import Shape

GIB = 1 << 30

DIVIDED: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "optimizer": ("optimizer",),
    "gradients": ("optimizer", "gradients"),
    "all": ("optimizer", "gradients", "weights"),
}
"""What of the training state is divided over the GPUs: none of it, or as ZeRO-1, ZeRO-2, and
ZeRO-3 or FSDP do. Source: ZeRO (arXiv 1910.02054), figure 1."""

OFFLOADED = 2.0
"""Bytes per parameter of weights and of gradients on the GPU where the optimizer is in the host's
memory: both in 16 bits. Source: ZeRO-Offload (arXiv 2101.06840), section 3."""


def attended_pairs(prompt: float, responses: Sequence[float]) -> float:
    """Pairs (token, token it attends to) of a prompt whose responses share it, causal attention.

    The prompt alone has prompt^2 / 2, a response prompt x response + response^2 / 2.
    """
    return prompt**2 / 2 + sum(prompt * response + response**2 / 2 for response in responses)


def forward_flops(shape: Shape, *, tokens: float, pairs: float) -> float:
    """Operations of a forward pass: two per active parameter and token, and attention.

    Attention has a product and a sum for each pair, channel and of both of its matrix products:
    4 x layers x width of all heads x pairs. Source: Kaplan et al. (arXiv 2001.08361), section 2.1.
    """
    return 2 * shape.active * tokens + 4 * shape.layers * shape.attention_width * pairs


def training_passes(*, checkpointing: bool, adapters: bool) -> int:
    """Forward passes that a training step costs.

    The gradient of activations and that of weights cost one each, so that full training is 6 x
    parameters x tokens. Adapters need (nearly) no gradient of weights; activation checkpointing
    does the forward pass again.
    """
    return 3 - adapters + checkpointing


def decode_bound(shape: Shape, *, sequences: int, context: float, bytes_per_s: float) -> float:
    """Most response tokens per second of a replica: each step reads all weights and the cache once.

    Weights and cache in 16 bits; `context` is the mean number of tokens in the cache of a sequence.
    """
    read = 2 * shape.parameters + sequences * context * kv_bytes(shape)
    return sequences * bytes_per_s / read


def kv_bytes(shape: Shape, *, bytes_per_number: float = 2) -> float:
    """Bytes of the key-value cache of one token."""
    return shape.layers * shape.kv_width * bytes_per_number


def training_state_bytes(
    parameters: float,
    *,
    trained: float,
    optimizer_bytes: float,
    gpus: int,
    sharded: str,
    frozen_bytes: float = 4,
    offloaded: bool = False,
) -> dict[str, float]:
    """Bytes per GPU of weights, gradients and optimizer state.

    Weights and gradients are float32 (DeepSpeed keeps 16-bit copies and a float32 one among its
    optimizer state, which comes to the same 16 bytes per parameter with Adam).

    sharded: a key of `DIVIDED`.
    offloaded: the optimizer and the weights that it steps are in the host's memory.
    """
    each = OFFLOADED if offloaded else 4
    whole = {
        "weights": each * trained + frozen_bytes * (parameters - trained),
        "gradients": each * trained,
        "optimizer": 0.0 if offloaded else optimizer_bytes * trained,
    }
    divided = DIVIDED[sharded]
    return {name: size / (gpus if name in divided else 1) for name, size in whole.items()}


def activation_bytes(
    shape: Shape, *, tokens: float, checkpointing: bool, bytes_per_number: float
) -> float:
    """Activations saved for the backward pass of `tokens` tokens in one forward pass.

    A layer saves about 17 numbers per token and channel besides attention scores, which fused
    kernels do not keep; with checkpointing its input alone, and one layer at a time in full.
    Source: Korthikanti et al. (arXiv 2205.05198), equation 1 without the term of scores: 34 s b h
    bytes in 16 bits.
    """
    layer = 17 * tokens * shape.hidden * bytes_per_number
    if not checkpointing:
        return shape.layers * layer
    return shape.layers * tokens * shape.hidden * bytes_per_number + layer


def short(number: float) -> str:
    """1.2K, 3.4M, 5.6B, 7.8T.

    >>> short(150_000_000), short(8.03e9), short(12)
    ('150M', '8.03B', '12')
    """
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:,.3g}{name}"
    return f"{number:,.0f}"


def distribution_bytes(top_k: int) -> int:
    """Bytes per token of a teacher's distributions as training maps them: ids and log-probs of k
    tokens, where both lists begin, the token itself, and the remainder; 4 bytes each."""
    return 4 * (2 * top_k + 4)

"""The training step of `benchmarks.training_step`: shared prompts over padding, by kernel."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence

from benchmarks.arms import Bench
from benchmarks.gpu.figures import Figure
from benchmarks.shapes import SHAPES, peak, step_operations
from benchmarks.training_step import Setting, measure

ASKED = {("uf", 2): 1.85, ("uf", 4): 2.2, ("long", 2): 2.5, ("short", 2): 1.6}
"""Padded over shared at the shape of 8B, by lengths and prompts per batch."""


def figures(
    device: str,
    shape: str,
    *,
    layers: int | None,
    prompts: int,
    settings: Sequence[tuple[str, int]] = tuple(ASKED),
) -> Iterator[Figure]:
    """Ratios for padded rows with transformers' kernel and with torch's."""
    for kernel in ("varlen", "varlen everywhere") if device == "cuda" else ("sdpa",):
        bench = Bench(
            SHAPES[shape].with_layers(layers),
            device=device,
            attention=kernel,
            checkpointing=True,
            lm_head="scored",
        )
        most = peak(device)
        for kind, size in settings:
            setting = Setting(kind, size, max(1, prompts // size))
            padded, shared, trl = measure(bench, ["padded", "shared", "trl"], setting, 2)
            name = f"{shape}, {kind}, {size} prompts, packed {kernel}"
            ratio = sum(padded.seconds) / sum(shared.seconds)
            wanted = ASKED[kind, size] if shape == "8b" and kernel == "varlen" else 1.0
            yield Figure("steps", f"{name}: padded over shared", ratio, least=wanted)
            tokens = padded.arm.tokens / shared.arm.tokens
            yield Figure("steps", f"{name}: tokens of padded over shared", tokens)
            each = sum(shared.seconds) / len(shared.seconds) / (size * setting.batches)
            pairs = sum(trl.seconds) / len(trl.seconds) / (size * setting.batches)
            yield Figure("steps", f"{name}: shared, a prompt", each, "s")
            yield Figure("steps", f"{name}: TRL on the pairs, a prompt", pairs, "s")
            done = step_operations(
                bench.shape,
                tokens=shared.arm.tokens,
                scored=shared.arm.scored,
                pairs=shared.arm.attention_pairs,
            )
            if most:
                share = 100 * done * len(shared.seconds) / sum(shared.seconds) / most
                yield Figure("steps", f"{name}: share of peak", share, "%")
                yield Figure("steps", f"{name}: peak memory", shared.peak_bytes / 1e9, "GB")
        del bench, padded, shared, trl  # before the next two models are made
        gc.collect()

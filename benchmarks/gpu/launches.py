"""What a training step costs besides its arithmetic: seconds and launches of ways to make it.

A step is forward and backward of a policy with checkpointing over one packed row of shared prompts.
A launch is a kernel, copy or fill of the GPU; on a CPU, a call of an ATen operator.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import trl.trainer.utils
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.figures import Figure
from benchmarks.lengths import triple_lengths
from benchmarks.meter import seconds
from benchmarks.shapes import SHAPES, Shape, random_model
from wrpo.collator import DataCollatorForWRPO, by_response
from wrpo.prefix.attention import SDPA, attach_scored_only
from wrpo.prefix.fused_head import fused_pass
from wrpo.prefix.packing import PackedLayout
from wrpo.prefix.varlen_attention import VARLEN
from wrpo.rows.columns import TRIPLE_RESPONSES
from wrpo.training.compiled_layers import compile_layers
from wrpo.training.trl_seam import add_fused_lm_head

CHUNKS = (8192, 32768, 65536, 262144)
"""Entries of the vocabulary that the LM head projects at a time; the second is TRL's."""
_WARM_UP, _TURNS = 2, 3

Batch = dict[str, Tensor]
Measure = Callable[[str, Callable[[], Any]], Iterator[Figure]]
"""The figures of one way to make a step, by its name."""


def figures(
    device: str, shape: str, *, layers: int | None, prompts: int, shrink: int = 1
) -> Iterator[Figure]:
    """Every way by itself; what cannot run says why."""
    size = SHAPES[shape].with_layers(layers)
    batch = _batch(size, device, prompts, shrink)
    autocast = torch.autocast(device, torch.bfloat16)

    def measure(way: str, step: Callable[[], Any]) -> Iterator[Figure]:
        yield from _measured(f"{shape}, {batch['input_ids'].numel()} tokens: {way}", step, device)

    yield from _on_bfloat16_weights(measure, size, batch, device, autocast)
    gc.collect()
    whole = _model(size, device).float()
    yield from measure("autocast over float32 weights", partial(_step, whole, batch, autocast))


def _on_bfloat16_weights(
    measure: Measure, size: Shape, batch: Batch, device: str, autocast: AbstractContextManager[Any]
) -> Iterator[Figure]:
    """What is measured on bfloat16 weights."""
    model = _model(size, device).to(torch.bfloat16)
    plain = partial(_step, model, batch)
    yield from measure("eager, bfloat16 weights", plain)
    yield from measure("autocast over bfloat16 weights", partial(plain, autocast))
    for chunk in CHUNKS:
        chunks = patch.object(trl.trainer.utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", chunk)
        yield from measure(f"LM head, chunks of {chunk}", partial(plain, chunks))
    yield from _graphed(measure, model, batch, device)
    plain(zero=False)
    yield from _updates(measure, list(model.parameters()))
    model.zero_grad(set_to_none=True)
    compile_layers(model)
    yield from measure("compiled layers", plain)


def _model(size: Shape, device: str) -> Any:
    model = random_model(size, seed=0, device=device, attention="sdpa")
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    attach_scored_only(model)
    model.config._attn_implementation = VARLEN if device == "cuda" else SDPA
    # The state of the random generator cannot be kept while a graph is captured; nothing drops out.
    model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    return model.train()


def _batch(size: Shape, device: str, prompts: int, shrink: int) -> Batch:
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        number = (max(2, count // shrink),)
        return torch.randint(3, size.vocabulary, number, generator=generator).tolist()

    rows = [
        {
            "prompt_ids": tokens(prompt),
            **{f"{name}_ids": tokens(n) for name, n in zip(TRIPLE_RESPONSES, own, strict=True)},
        }
        for prompt, own in triple_lengths("uf", prompts, seed=1)
    ]
    layout = PackedLayout(scored_only=True)
    batch = DataCollatorForWRPO(pad_token_id=0, layout=layout)(rows)
    return {name: value.to(device) for name, value in batch.items()}


def _step(
    model: Any,
    batch: Batch,
    context: AbstractContextManager[Any] | None = None,
    *,
    zero: bool = True,
) -> None:
    with context or nullcontext():
        outputs = fused_pass(model, batch)
        by_response(outputs.log_probs, batch).mean().backward()
    if zero:
        model.zero_grad(set_to_none=True)


def _measured(what: str, step: Callable[[], Any], device: str) -> Iterator[Figure]:
    """Seconds and launches of a step after some to warm up."""
    try:
        for _ in range(_WARM_UP):
            step()
        taken = min(seconds(step, device)[0] for _ in range(_TURNS))
        launched = _launches(step, device)
    except Exception as error:  # of memory, of compilers, of what a graph cannot hold
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        yield Figure("launches", f"{what}, does not run", 0, note=reason)
        return
    yield Figure("launches", what, taken, "s/step")
    yield Figure("launches", f"{what}, launches", launched)


def _launches(step: Callable[[], Any], device: str) -> int:
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    with profile(activities=activities) as seen:
        step()
        if device == "cuda":
            torch.cuda.synchronize()
    events = seen.events() or []
    if device == "cuda":
        return sum(event.device_type.name == "CUDA" for event in events)
    return sum(event.name.startswith("aten::") for event in events)


class _Backbone(nn.Module):
    """The layers over one arrangement of tokens, which a graph holds as constants."""

    def __init__(self, model: Any, batch: Batch) -> None:
        super().__init__()
        self.layers, self._batch = model.base_model, batch

    def forward(self, embedded: Tensor) -> Tensor:
        places = {name: self._batch[name] for name in ("attention_mask", "position_ids")}
        output = self.layers(inputs_embeds=embedded, use_cache=False, **places)
        hidden: Tensor = output.last_hidden_state
        return hidden


def _graphed(measure: Measure, model: Any, batch: Batch, device: str) -> Iterator[Figure]:
    """Forward and backward of the layers alone, as kernels and as CUDA graphs of this one length.

    The LM head is left out: how many labels it has is read from the GPU.
    """
    if device != "cuda":
        yield Figure("launches", "CUDA graphs", 0, note="skipped: they need a GPU")
        return
    layers = _Backbone(model, batch)
    embedded = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()

    def step(run: Callable[[Tensor], Tensor]) -> None:
        run(embedded).float().mean().backward()
        model.zero_grad(set_to_none=False)

    yield from measure("layers alone, eager", lambda: step(layers))
    graphs: list[Any] = []

    def replay() -> None:
        if not graphs:  # within the measurement, whose failures are figures
            graphs.append(_graph(layers, embedded))
        step(graphs[0])

    yield from measure("layers alone, CUDA graphs of this length", replay)


def _graph(layers: nn.Module, embedded: Tensor) -> Any:
    """The embeddings among the weights get no gradient."""
    return torch.cuda.make_graphed_callables(layers, (embedded,), allow_unused_input=True)


def _updates(measure: Measure, parameters: Sequence[nn.Parameter]) -> Iterator[Figure]:
    """Clipping and optimizer, tensor by tensor, in lists of tensors, and fused."""
    ways = {"tensor by tensor": {"foreach": False}, "foreach": {"foreach": True}}
    for name, options in ways.items():
        clip = partial(torch.nn.utils.clip_grad_norm_, parameters, 1.0, **options)
        yield from measure(f"clipping, {name}", clip)
    for name, options in {**ways, "fused": {"fused": True}}.items():
        optimizer = torch.optim.AdamW(parameters, lr=1e-9, **options)  # type: ignore[arg-type]
        yield from measure(f"AdamW, {name}", optimizer.step)
        optimizer.state.clear()

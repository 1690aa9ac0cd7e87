"""Log-probs and gradients of every layout and attention against padded rows in float32."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from benchmarks.gpu.figures import Figure
from wrpo.collator import BatchLayout, DataCollatorForWRPO, by_response, padded_layout
from wrpo.prefix.attention import SDPA, attach_scored_only
from wrpo.prefix.flex_attention import FLEX, flex_refusal
from wrpo.prefix.fused_head import fused_pass
from wrpo.prefix.packing import PackedLayout
from wrpo.prefix.timed_trial import usual_rows
from wrpo.prefix.varlen_attention import VARLEN, kernel_refusal
from wrpo.rows.columns import TRIPLE_RESPONSES

VOCABULARY = 512
_SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "initializer_range": 0.1,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 16},
    "qwen2": {},
    "qwen3": {},
    "phi3": {"sliding_window": 16},
    "gemma2": {"sliding_window": 16, "query_pre_attn_scalar": 32},
    "gemma3_text": {"sliding_window": 16, "query_pre_attn_scalar": 32},
    "mixtral": {"num_local_experts": 4},
    "gpt_oss": {"sliding_window": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
}
"""Windows are shorter than the rows."""


def figures(device: str) -> Iterator[Figure]:
    """Float32 against float32; 16 bits against float32, and no farther than padding is.

    FlexAttention comes last, with the families that need it: to compile it takes long.
    """
    packed = PackedLayout(scored_only=device == "cpu")
    for family in FAMILIES:
        model = family_model(family, device)
        expected = _score(model, padded_layout, model.config._attn_implementation)
        yield from _full(model, family, expected, packed, SDPA)
        if device != "cpu" or family == "llama":  # CPUs are slow in 16 bits
            ways: list[tuple[BatchLayout, str]] = [(packed, SDPA)]
            if _kernel_takes(model, device):
                ways += [(packed, VARLEN), (padded_layout, VARLEN)]
            yield from _half(model, family, expected, ways)
    for family in FAMILIES:
        model = family_model(family, device)
        if _kernel_takes(model, device) or flex_refusal(model, device=torch.device(device)):
            continue
        expected = _score(model, padded_layout, model.config._attn_implementation)
        yield from _full(model, family, expected, packed, FLEX)
        yield from _half(model, family, expected, [(packed, FLEX)])


def _kernel_takes(model: Any, device: str) -> bool:
    reason = kernel_refusal(model, device=torch.device(device), dtype=torch.bfloat16)
    return reason is None


def _full(
    model: Any, family: str, expected: Any, packed: BatchLayout, attention: str
) -> Iterator[Figure]:
    """Distance in float32."""
    found = _score(model, packed, attention)
    distance = (found[0] - expected[0]).abs() - 1e-6 * expected[0].abs()
    what = f"{family}, float32, prefix with {attention}"
    far = distance.max().item()
    yield Figure("exactness", f"{what}: log-prob beyond 1e-6 of it", far, "nats", most=2e-4)
    worst = max(_relative(found[1][name], grad) for name, grad in expected[1].items())
    yield Figure("exactness", f"{what}: gradient, relative", worst, most=2e-5)


def _half(
    model: Any, family: str, expected: Any, ways: Sequence[tuple[BatchLayout, str]]
) -> Iterator[Figure]:
    """Distance from float32 in bfloat16, over that of padded rows."""
    half = copy.deepcopy(model).to(torch.bfloat16)
    add_fused_lm_head(half, outputs=("log_probs", "entropy"))
    base = model.config._attn_implementation
    padded = _score(half, padded_layout, base)
    off = [_distance(padded[0], expected[0]), _gradient_distance(padded[1], expected[1])]
    for layout, attention in ways:
        found = _score(half, layout, attention)
        name = "padded" if layout is padded_layout else "prefix"
        what = f"{family}, bfloat16, {name} with {attention}: distance from float32 over padding's"
        ours = [_distance(found[0], expected[0]), _gradient_distance(found[1], expected[1])]
        for of, own, usual in zip(("log-probs", "gradients"), ours, off, strict=True):
            yield Figure("exactness", f"{what}, {of}", own / usual, most=1.5)


def family_model(family: str, device: str, **changes: Any) -> Any:
    """A random model in float32 that trains, in attention that leaves nothing of it out.

    changes: to its config.
    """
    shape = {**_SHAPE, **FAMILIES[family], **changes}
    config = AutoConfig.for_model(family, **shape, vocab_size=VOCABULARY)
    torch.manual_seed(0)
    # The library's sdpa leaves Gemma-2's bound on the scores out, and has no sinks.
    attention = "eager" if family in ("gemma2", "gpt_oss") else "sdpa"
    model = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=attention
    )
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model.to(device).train()


def _score(model: Any, layout: BatchLayout, attention: str) -> tuple[Tensor, dict[str, Tensor]]:
    before = model.config._attn_implementation
    model.config._attn_implementation = attention
    attach_scored_only(model)
    rows, device = usual_rows(VOCABULARY, TRIPLE_RESPONSES), next(model.parameters()).device
    if device.type == "cpu":
        rows = [{name: ids[: len(ids) // 12 + 4] for name, ids in row.items()} for row in rows]
    batch = DataCollatorForWRPO(pad_token_id=0, layout=layout)(rows)
    batch = {name: value.to(device) for name, value in batch.items()}
    model.zero_grad()
    logps = by_response(fused_pass(model, batch).log_probs, batch)
    weights = torch.linspace(-1, 2, logps.numel(), device=logps.device).view_as(logps)
    (logps * weights).sum().backward()
    model.config._attn_implementation = before
    return logps.detach().float(), {
        name: p.grad.float().clone() for name, p in model.named_parameters() if p.grad is not None
    }


def _relative(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm().clamp(min=1e-30)).item()


def _distance(found: Tensor, expected: Tensor) -> float:
    return (found - expected).square().mean().sqrt().item()


def _gradient_distance(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    off = sum((found[name] - grad).square().sum() for name, grad in expected.items())
    return float(torch.as_tensor(off).sqrt())

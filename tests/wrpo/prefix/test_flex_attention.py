"""FlexAttention over segments: its mask in float64 against dense attention, and whole models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask

import wrpo.prefix.flex_attention
from tests.support.tiny_models import tiny_model
from tests.wrpo.prefix.layouts import (
    assert_same_scores,
    score,
    scoring_model,
    share_prompts,
    token_rows,
)
from tests.wrpo.prefix.test_attention import dense_mask
from wrpo.collator import DataCollatorForWRPO, padded_layout
from wrpo.prefix.attention import prefix_sdpa
from wrpo.prefix.flex_attention import FLEX, flex_refusal, prefix_flex, segment_mask
from wrpo.prefix.packing import PackedLayout

MODULE: Any = SimpleNamespace(num_key_value_groups=2, is_causal=True)


def plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    score_mod: Any,
    block_mask: Any,
    scale: float | None,
    enable_gqa: bool,
    return_lse: bool,
) -> tuple[Tensor, Tensor]:
    """The contract of flex_attention in plain torch, with a backward pass on CPUs."""
    assert return_lse
    assert enable_gqa == (query.shape[1] != key.shape[1])
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scale is None else scale)
    scores = scores if score_mod is None else score_mod(scores, *4 * [None])
    size = query.shape[2]
    seen = create_mask(block_mask.mask_mod, 1, 1, size, size, device="cpu")
    scores = scores.masked_fill(~seen, -torch.inf)
    return scores.softmax(dim=-1) @ value, scores.logsumexp(dim=-1)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrpo.prefix.flex_attention, "compiled", lambda: plain)


@pytest.mark.parametrize("window", [None, 1, 24])
def test_the_mask_is_the_dense_one(window: int | None) -> None:
    batch = DataCollatorForWRPO(pad_token_id=0, layout=PackedLayout())(token_rows())
    table, size = batch["attention_mask"], batch["input_ids"].numel()
    expected = dense_mask(table, batch["position_ids"][0], window or size)
    seen = create_mask(segment_mask(table, window), 1, 1, size, size, device="cpu")
    assert torch.equal(seen, expected == 0)


@pytest.mark.parametrize("window", [None, 24])
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("sinks", [False, True])
def test_values_and_gradients_in_float64(on_cpu, window, softcap, sinks) -> None:
    layout = PackedLayout(row_tokens=160)
    batch = DataCollatorForWRPO(pad_token_id=0, layout=layout)(token_rows())
    rows, tokens = batch["input_ids"].shape
    torch.manual_seed(0)
    shapes = [(rows, heads, tokens, 8) for heads in (4, 2, 2)]
    states = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    learned = torch.randn(4, dtype=torch.float64).requires_grad_()
    weights = torch.randn(rows, tokens, 4, 8, dtype=torch.float64)
    found = []
    for attend in (prefix_sdpa, prefix_flex):
        options = {"scaling": 0.4, "sliding_window": window, "softcap": softcap}
        options["s_aux"] = learned if sinks else None
        output, _ = attend(MODULE, *states, batch["attention_mask"], **options)
        leaves = [*states, *([learned] if sinks else [])]
        found.append([output, *torch.autograd.grad((output * weights).sum(), leaves)])
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("architecture", ["gemma2", "gpt_oss", "mistral"])
def test_scores_and_gradients_equal_padded_rows(architecture: str, on_cpu) -> None:
    model = scoring_model(architecture)
    expected = score(model, padded_layout)
    share_prompts(model, FLEX)
    for layout in (padded_layout, PackedLayout(scored_only=True)):
        assert_same_scores(expected, score(model, layout))


def test_what_it_does_not_take() -> None:
    model, gpu = tiny_model("gemma2"), torch.device("cuda")
    assert flex_refusal(model, device=gpu) is None
    assert "no backward pass on cpu" in str(flex_refusal(model, device=torch.device("cpu")))
    assert "96 dim" in str(flex_refusal(tiny_model(head_dim=96), device=gpu))
    assert "dropout" in str(flex_refusal(tiny_model(attention_dropout=0.1), device=gpu))

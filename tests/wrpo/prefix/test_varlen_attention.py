"""Attention through torch's variable-length kernel, whose contract a reference stands in for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import wrpo.prefix.varlen_attention
from tests.support.tiny_models import tiny_model
from tests.wrpo.prefix.layouts import (
    assert_same_scores,
    score,
    scoring_model,
    share_prompts,
    token_rows,
)
from tests.wrpo.prefix.varlen_reference import reference_kernel, varlen_attn
from wrpo.collator import padded_layout
from wrpo.prefix.packing import PackedLayout
from wrpo.prefix.varlen_attention import VARLEN, adapted, kernel_refusal

MODELS = ("llama", "qwen2", "qwen3", "mistral", "phi3", "gemma3", "mixtral", "qwen3_moe")
CPU = torch.device("cpu")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Puts the reference in the place of the kernel; counts the query tokens of each call."""
    kernel, seen = reference_kernel(), []

    def attend(query: Tensor, *rest: Any) -> Tensor:
        seen.append(len(query))
        return kernel.attend(query, *rest)

    counted = kernel._replace(attend=attend)
    monkeypatch.setattr(wrpo.prefix.varlen_attention, "torch_kernel", lambda: counted)
    return seen


@pytest.mark.parametrize("window", [None, 1, 5, 40])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_reference_equals_plain_masked_attention(window: int | None, dtype: torch.dtype):
    torch.manual_seed(0)
    lengths = [(7, 7), (3, 12), (1, 9)]  # queries, keys
    queries, keys = zip(*lengths, strict=True)
    shapes = [(sum(queries), 6, 16), (sum(keys), 2, 16), (sum(keys), 2, 16)]
    states = [torch.randn(shape, dtype=dtype) for shape in shapes]
    bounds = [torch.tensor([0, *counts]).cumsum(0).int() for counts in (queries, keys)]
    output = reference_kernel().attend(*states, *bounds, 7, 12, 0.3, window)
    for i, (queries, keys) in enumerate(lengths):
        at, to = slice(*bounds[0][i : i + 2]), slice(*bounds[1][i : i + 2])
        distance = torch.arange(keys - queries, keys)[:, None] - torch.arange(keys)
        mask = (distance >= 0) & (distance < (window or keys))
        q, k, v = (x.transpose(0, 1)[None] for x in (states[0][at], states[1][to], states[2][to]))
        expected = scaled_dot_product_attention(q, k, v, mask, scale=0.3, enable_gqa=True)
        torch.testing.assert_close(output[at], expected[0].transpose(0, 1))


def first_release(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
    """torch 2.10: no window, no scale."""
    bounds = (cu_seq_q, cu_seq_k, max_q, max_k)
    return _any_heads(q, k, v, *bounds, window_size=(-1, 0 if is_causal else -1))


def second_release(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):
    """torch 2.11: grouped heads without being told."""
    bounds = (cu_seq_q, cu_seq_k, max_q, max_k)
    return _any_heads(q, k, v, *bounds, scale=scale, window_size=window_size)


def _any_heads(q, k, *rest: Any, **options: Any) -> Tensor:
    return varlen_attn(q, k, *rest, **options, enable_gqa=q.shape[1] != k.shape[1])


@pytest.mark.parametrize("release", [first_release, second_release])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_every_release_gives_the_same(release, scale: float | None):
    torch.manual_seed(0)
    states = [torch.randn(11, heads, 8, dtype=torch.float64) for heads in (4, 2, 2)]
    bounds = torch.tensor([0, 4, 11], dtype=torch.int32)
    ours = adapted(release)
    expected = reference_kernel().attend(*states, bounds, bounds, 7, 7, scale, None)
    torch.testing.assert_close(ours.attend(*states, bounds, bounds, 7, 7, scale, None), expected)
    assert ours.windows == (release is second_release)


@pytest.mark.parametrize("architecture", MODELS)
def test_scores_and_gradients_equal_padded_rows(architecture: str, calls: list[int]):
    model = scoring_model(architecture)
    expected = score(model, padded_layout)
    assert calls == []
    share_prompts(model, VARLEN)
    tokens = []
    for layout in (padded_layout, PackedLayout(scored_only=True), PackedLayout(row_tokens=160)):
        assert_same_scores(expected, score(model, layout))
        tokens.append(calls[-1])
        calls.clear()
    real = sum(
        len(row["prompt_ids"]) * 3
        + sum(len(ids) for name, ids in row.items() if "prompt" not in name)
        for row in token_rows()
    )
    assert tokens[0] == real > tokens[1], "padding is left out, and prompts are shared"


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"lora": True}, {"checkpointing": True}], ids=str)
@pytest.mark.parametrize("architecture", ["llama", "mistral", "qwen3_moe"])
def test_adapters_and_checkpointing(architecture: str, options, calls: list[int]):
    model = scoring_model(architecture, **options)
    expected = score(model, padded_layout)
    share_prompts(model, VARLEN)
    assert_same_scores(expected, score(model, PackedLayout(scored_only=True)))
    assert calls


@pytest.mark.parametrize("architecture", ["mistral", "phi3", "gemma3"])
def test_ignoring_the_window_is_noticed(architecture: str, calls: list[int], monkeypatch):
    model = scoring_model(architecture)
    expected, _ = score(model, padded_layout)
    share_prompts(model, VARLEN)
    kernel = wrpo.prefix.varlen_attention.torch_kernel()
    blind = kernel._replace(attend=lambda *states: kernel.attend(*states[:-1], None))
    monkeypatch.setattr(wrpo.prefix.varlen_attention, "torch_kernel", lambda: blind)
    wrong, _ = score(model, PackedLayout())
    assert (expected - wrong).abs().max() > 0.1


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "no kernel"])
def test_packed_rows_equal_each_row_by_itself(architecture: str, kernel: bool, request):
    """As SFT packs them: one row whose positions restart, and no mask."""
    if kernel:
        calls = request.getfixturevalue("calls")
    model = tiny_model(architecture)
    generator = torch.Generator().manual_seed(3)
    rows = [torch.randint(4, 262, (1, n), generator=generator) for n in (30, 1, 45, 9)]
    expected = torch.cat([model(row).logits for row in rows], dim=1)
    positions = torch.cat([torch.arange(row.shape[1]) for row in rows])[None]
    model.config._attn_implementation = VARLEN
    packed = model(torch.cat(rows, dim=1), position_ids=positions, use_cache=False).logits
    torch.testing.assert_close(packed, expected, rtol=1e-4, atol=1e-4)
    if kernel:
        assert set(calls) == {85}


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2", "gpt_oss"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing_without_the_kernel(architecture: str, side: str):
    """A GPU in float32, or a bound on the scores: what the kernel does not take."""
    model = tiny_model(architecture)
    model.config._attn_implementation = "eager"
    ids = torch.randint(4, 262, (2, 40), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[0, slice(0, 9) if side == "left" else slice(31, 40)] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    expected = model(ids, attention_mask=mask, position_ids=positions).logits
    model.config._attn_implementation = VARLEN
    ours = model(ids, attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(ours[mask.bool()], expected[mask.bool()], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_generation_is_unchanged(architecture: str, calls: list[int]):
    model = tiny_model(architecture)
    prompts = torch.randint(4, 262, (2, 30), generator=torch.Generator().manual_seed(3))
    options = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones(2, 30).long()}
    options["attention_mask"][0, :7] = 0
    expected = model.generate(prompts, **options)
    model.config._attn_implementation = VARLEN
    assert torch.equal(model.generate(prompts, **options), expected)
    assert set(calls) == {53}, "the prompts, without padding; what is cached goes elsewhere"


def test_what_inference_mode_left_serves_training(calls: list[int]):
    model = tiny_model()
    model.config._attn_implementation = VARLEN
    ids = torch.randint(4, 262, (3, 33), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        model(ids, use_cache=False)
    bounds = wrpo.prefix.varlen_attention._whole(3, 33, CPU).cu_keys
    assert not bounds.is_inference()
    model.train()(ids, use_cache=False).logits.sum().backward()
    assert calls == [99] * 4


def test_attention_that_sees_what_follows_is_left_to_sdpa(calls: list[int]):
    """Encoders ask for it by an argument, whatever the module says."""
    torch.manual_seed(0)
    module: Any = SimpleNamespace(num_key_value_groups=2, is_causal=True)
    states = [torch.randn(2, heads, 9, 8, dtype=torch.float64) for heads in (4, 2, 2)]
    ours, _ = wrpo.prefix.varlen_attention.varlen_attention(module, *states, None, is_causal=False)
    expected = scaled_dot_product_attention(*states, enable_gqa=True)
    torch.testing.assert_close(ours, expected.transpose(1, 2))
    assert calls == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, None),
        ({"architecture": "gemma2"}, "bound on the scores"),
        ({"architecture": "gpt_oss"}, "learned sinks"),
        ({"attention_dropout": 0.1}, "dropout"),
        ({"head_dim": 264}, "264 dimensions"),
        ({"head_dim": 12}, "12 dimensions"),
    ],
    ids=str,
)
def test_models_that_the_kernel_does_not_take(options, reason: str | None, calls: list[int]):
    model = tiny_model(**options)
    said = kernel_refusal(model, device=CPU, dtype=torch.float32)
    assert said is None if reason is None else reason in said
    assert "does not take float16" in kernel_refusal(model, device=CPU, dtype=torch.float16)


def test_the_installed_torch_has_it_for_gpus():
    reason = kernel_refusal(tiny_model(), device=CPU, dtype=torch.bfloat16)
    assert reason == "variable-length attention does not run on cpu"


def test_windows_need_a_release_that_has_them(monkeypatch: pytest.MonkeyPatch):
    old = adapted(first_release)._replace(device="cpu")
    monkeypatch.setattr(wrpo.prefix.varlen_attention, "torch_kernel", lambda: old)
    assert kernel_refusal(tiny_model(), device=CPU, dtype=torch.bfloat16) is None
    windowed = kernel_refusal(tiny_model("mistral"), device=CPU, dtype=torch.bfloat16)
    assert windowed and "sliding window" in windowed

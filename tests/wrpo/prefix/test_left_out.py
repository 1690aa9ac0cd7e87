"""Families by attention implementations: what says that it is complete gives what eager gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

import wrpo.prefix.flex_attention
import wrpo.prefix.varlen_attention
from tests.support.tiny_models import save_tiny, tiny_model
from tests.wrpo.prefix.layouts import GEMMA3, share_prompts, token_rows
from tests.wrpo.prefix.test_flex_attention import plain
from tests.wrpo.prefix.varlen_reference import reference_kernel
from wrpo.collator import DataCollatorForWRPO, by_response, padded_layout
from wrpo.prefix.attention import SDPA
from wrpo.prefix.choose import LayoutOptions, reason_not_supported
from wrpo.prefix.flex_attention import FLEX
from wrpo.prefix.fused_head import fused_pass
from wrpo.prefix.left_out import asked_of_attention, complete_attention, left_out
from wrpo.prefix.packing import PackedLayout
from wrpo.prefix.varlen_attention import VARLEN, kernel_refusal
from wrpo.recipe.sampling import Model
from wrpo.training.common import load_policy

CPU = torch.device("cpu")
FAMILIES: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("llama", "qwen2", "qwen3", "mistral", "phi3", "mixtral", "qwen3_moe")},
    "gemma2": {"attn_logit_softcapping": 2.0},
    "gemma3": {},
    "gpt_oss": {},
    "granite": {"attention_multiplier": 0.7},
    "vaultgemma": {"attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 8},
    "phimoe": {},
    "inkling": {},
}
COMPLETE = ("eager", SDPA, FLEX, VARLEN)
LEFT_OUT = {
    ("gemma2", "sdpa"): "softcap",
    ("vaultgemma", "sdpa"): "softcap",
    ("gpt_oss", "sdpa"): "sinks",
    ("phimoe", VARLEN): "sliding window",
    ("phimoe", "flash_attention_2"): "sliding window",
    ("inkling", "flash_attention_2"): "biases",
}
"""All that is left out, of all families by all implementations."""
NO_SEGMENTS = {"phimoe": "noise", "inkling": "biases"}
NO_KERNEL = {
    **dict.fromkeys(("gemma2", "vaultgemma"), "softcap"),
    "gpt_oss": "sinks",
    "phimoe": "only to its mask",
    "inkling": "an attention of its own",
}


def family(name: str) -> Any:
    """A tiny model in eager attention, with terms large enough to matter."""
    if name == "gemma3":
        torch.manual_seed(0)
        model: Any = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**GEMMA3)).eval()
    elif name == "inkling":
        model = tiny_inkling()
    else:
        model = tiny_model(name, **FAMILIES[name])
    for place, parameter in model.named_parameters():
        if place.endswith("sinks"):
            torch.nn.init.uniform_(parameter, -1, 3)
    model.config._attn_implementation = "eager"
    return model


def tiny_inkling() -> Any:
    """A decoder whose attention learns biases between positions."""
    pytest.importorskip("transformers.models.inkling", reason="this transformers has no Inkling")
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    config = transformers.InklingTextConfig(
        vocab_size=262,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        layer_types=["hybrid_sliding", "hybrid"],
        mlp_layer_types=["dense", "dense"],
        sliding_window_size=24,
        d_rel=4,
        rel_extent=48,
        initializer_range=0.2,
        pad_token_id=0,
        **heads,
        **{f"swa_{key}": value for key, value in heads.items()},
    )
    torch.manual_seed(0)
    return transformers.InklingForCausalLM(config).eval()


@pytest.fixture(autouse=True)
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What needs a GPU, in plain torch."""
    monkeypatch.setattr(wrpo.prefix.varlen_attention, "torch_kernel", reference_kernel)
    monkeypatch.setattr(wrpo.prefix.flex_attention, "compiled", lambda: plain)


def logits(model: Any, attention: str) -> Tensor:
    """Of padded rows, without the padding."""
    ids = torch.randint(4, 262, (2, 60), generator=torch.Generator().manual_seed(3))
    mask = torch.ones_like(ids)
    mask[0, 41:] = 0
    model.config._attn_implementation = attention
    with torch.no_grad():
        return model(ids, attention_mask=mask).logits[mask.bool()]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_complete_gives_what_eager_gives_and_what_is_not_does_not(name: str) -> None:
    model = family(name)
    expected = logits(model, "eager")
    for attention in ("sdpa", *COMPLETE):
        reason, told = left_out(model, attention), LEFT_OUT.get((name, attention))
        assert (reason is None) if told is None else told in str(reason), attention
        distance = (logits(model, attention) - expected).abs().max()
        if told is None:
            assert distance <= 1e-4 * expected.abs().max(), attention
        else:
            assert distance > 1e-2, attention
    reason, told = left_out(model, "flash_attention_2"), LEFT_OUT.get((name, "flash_attention_2"))
    assert (reason is None) if told is None else told in str(reason)


@pytest.mark.parametrize("name", FAMILIES)
def test_shared_prompts_give_what_padded_rows_give_in_eager_attention(name: str) -> None:
    model = family(name)
    wishes = LayoutOptions(max_length=512)
    refusal = reason_not_supported(model, wishes)
    if name in NO_SEGMENTS:
        assert NO_SEGMENTS[name] in str(refusal)
        return
    assert refusal is None or "untested" in refusal
    kernel = kernel_refusal(model, device=CPU, dtype=torch.float32)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))

    def log_probs(layout: Any, attention: str) -> Tensor:
        share_prompts(model, attention)
        batch = DataCollatorForWRPO(pad_token_id=0, layout=layout)(token_rows())
        with torch.no_grad():
            return by_response(fused_pass(model, batch).log_probs, batch)

    expected = log_probs(padded_layout, "eager")
    for attention in (SDPA, FLEX, *([VARLEN] if kernel is None else [])):
        found = log_probs(PackedLayout(scored_only=True), attention)
        assert ((found - expected).abs() <= 1e-6 * expected.abs() + 2e-4).all(), attention


@pytest.mark.parametrize("name", FAMILIES)
def test_the_kernel_takes_the_models_that_it_computes_whole(name: str) -> None:
    reason = kernel_refusal(family(name), device=CPU, dtype=torch.float32)
    assert (reason is None) if name not in NO_KERNEL else NO_KERNEL[name] in str(reason)


def test_segments_and_biases_between_positions_are_refused_by_every_function() -> None:
    model = family("inkling")
    batch = DataCollatorForWRPO(pad_token_id=0, layout=PackedLayout())(token_rows())
    inputs = {name: batch[name] for name in ("input_ids", "position_ids", "attention_mask")}
    for attention in (SDPA, FLEX, VARLEN):
        model.config._attn_implementation = attention
        with pytest.raises(ValueError, match="know nothing of shared prompts"):
            model.model(**inputs)


def test_a_model_that_shows_nothing_is_judged_by_its_config() -> None:
    model = family("gemma2")
    model.base_model.forward = lambda **_: (_ for _ in ()).throw(TypeError("other arguments"))
    assert asked_of_attention(model) == {"softcap"}
    assert model.config._attn_implementation == "eager"


def test_looking_changes_nothing() -> None:
    model = family("mistral").train()
    assert asked_of_attention(model) >= {"scaling", "sliding_window"}
    assert model.training
    assert model.config._attn_implementation == "eager"


def test_what_loads_a_model_completes_its_attention(tmp_path, caplog) -> None:
    folder = str(save_tiny(tmp_path, "gemma2", attn_logit_softcapping=2.0))
    model = load_policy(folder, Model(model=folder), attention="sdpa")
    assert model.config._attn_implementation == SDPA
    assert "sdpa leaves the bound on its scores (softcap) of gemma2 out" in caplog.text
    assert complete_attention(model) == SDPA
    for attention in ("eager", None):
        plain_model = load_policy(folder, Model(model=folder), attention=attention)
        expected = "eager" if attention else SDPA
        assert plain_model.config._attn_implementation == expected

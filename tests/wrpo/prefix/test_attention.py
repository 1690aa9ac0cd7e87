"""Attention with shared prompts gives what padded rows give."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

import wrpo.prefix.attention
from tests.support.tiny_models import tiny_model
from tests.wrpo.prefix.layouts import (
    assert_same_scores,
    score,
    scoring_model,
    share_prompts,
    token_rows,
)
from wrpo.collator import DataCollatorForWRPO, padded_layout
from wrpo.prefix.attention import FLASH, SDPA
from wrpo.prefix.packing import PackedLayout, are_segments

MODELS = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "mistral", "phi3", "gpt_oss")
EXPERTS = ("mixtral", "qwen3_moe")
WINDOWED = ("gemma2", "gemma3", "mistral", "phi3")
LAYOUTS = (PackedLayout(scored_only=True), PackedLayout(), PackedLayout(row_tokens=160))


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("architecture", MODELS + EXPERTS)
def test_scores_and_gradients_equal_the_padded_layout(architecture, lora, checkpointing):
    model = scoring_model(architecture, lora=lora, checkpointing=checkpointing)
    expected = score(model, padded_layout)
    share_prompts(model)
    assert_same_scores(expected, score(model, padded_layout))
    for layout in LAYOUTS[: 1 if lora or checkpointing else 3]:
        assert_same_scores(expected, score(model, layout))


def test_pairs_equal_the_padded_layout():
    model = scoring_model("llama")
    pair = ("chosen", "rejected")
    expected = score(model, padded_layout, responses=pair)
    share_prompts(model)
    assert_same_scores(expected, score(model, PackedLayout(), responses=pair))


def distance_from_padded(model, **replaced) -> float:
    expected, _ = score(model, padded_layout)
    share_prompts(model)
    assert_same_scores(
        (expected, {"": expected}), (score(model, PackedLayout())[0], {"": expected})
    )
    wrong, _ = score(model, PackedLayout(), **replaced)
    return (expected - wrong).abs().max().item()


@pytest.mark.parametrize("architecture", MODELS)
def test_responses_that_see_each_other_are_noticed(architecture):
    tokens = DataCollatorForWRPO(pad_token_id=0, layout=PackedLayout())(token_rows())
    leaking = torch.tensor([[[[tokens["input_ids"].numel(), 0, 0]]]])
    assert distance_from_padded(scoring_model(architecture), attention_mask=leaking) > 0.1


@pytest.mark.parametrize("architecture", MODELS)
def test_a_batch_without_segments_is_noticed(architecture):
    assert distance_from_padded(scoring_model(architecture), attention_mask=None) > 0.1


@pytest.mark.parametrize("architecture", MODELS)
def test_later_responses_without_the_prompt_are_noticed(architecture):
    batch = DataCollatorForWRPO(pad_token_id=0, layout=PackedLayout())(token_rows())
    table = batch["attention_mask"].clone()
    table[..., 2] = 0
    assert distance_from_padded(scoring_model(architecture), attention_mask=table) > 0.1


def dense_mask(table: torch.Tensor, positions: torch.Tensor, window: int) -> torch.Tensor:
    """What each token of one packed row sees, 0 or -inf, with the window over `positions`."""
    rows = table[0, 0].tolist()
    starts = [sum(row[0] for row in rows[:i]) for i in range(len(rows) + 1)]
    size = starts[-1]
    seen = torch.zeros(size, size, dtype=torch.bool)
    for i, (_, owner, shared) in enumerate(rows):
        own = slice(starts[i], starts[i + 1])
        seen[own, own] = True
        seen[own, starts[owner] : starts[owner] + shared] = True
    near = positions[:, None] - positions < window
    hidden = ~(seen.tril() & near)[None, None]
    return torch.zeros(hidden.shape).masked_fill(hidden, torch.finfo(torch.float32).min)


@pytest.mark.parametrize("architecture", WINDOWED)
def test_a_window_over_indices_is_noticed_and_one_over_positions_is_right(architecture):
    model = scoring_model(architecture)
    expected, _ = score(model, padded_layout)
    batch = DataCollatorForWRPO(pad_token_id=0, layout=PackedLayout())(token_rows())
    table, positions = batch["attention_mask"], batch["position_ids"][0]

    def masks(over: torch.Tensor):
        sliding = dense_mask(table, over, 24)
        if not architecture.startswith("gemma"):
            return sliding
        # Layers with and without a window each take their own mask.
        full = dense_mask(table, over, table[..., 0].sum().item())
        return {"sliding_attention": sliding, "full_attention": full}

    right, _ = score(model, PackedLayout(), attention_mask=masks(positions))
    wrong, _ = score(model, PackedLayout(), attention_mask=masks(torch.arange(len(positions))))
    assert (expected - right).abs().max() < 1e-3
    assert (expected - wrong).abs().max() > 0.1


@pytest.mark.parametrize("architecture", WINDOWED)
def test_ignoring_the_window_is_noticed(architecture, monkeypatch):
    real = wrpo.prefix.attention._by_segment
    model = scoring_model(architecture)
    expected, _ = score(model, padded_layout)
    share_prompts(model)
    monkeypatch.setattr(
        wrpo.prefix.attention,
        "_by_segment",
        lambda *args, **options: real(*args, **{**options, "window": None}),
    )
    wrong, _ = score(model, PackedLayout())
    assert (expected - wrong).abs().max() > 0.1


@pytest.mark.parametrize("architecture", ["llama", "mistral"])
def test_generation_is_unchanged(architecture):
    model = tiny_model(architecture)
    prompts = torch.randint(4, 262, (2, 30), generator=torch.Generator().manual_seed(3))
    options = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones(2, 30).long()}
    options["attention_mask"][0, :7] = 0
    expected = model.generate(prompts, **options)
    model.config._attn_implementation = SDPA
    assert torch.equal(model.generate(prompts, **options), expected)


def test_gemma_2_generates_as_with_eager_attention():
    model = tiny_model("gemma2", attn_logit_softcapping=2.0)
    prompts = torch.randint(4, 262, (2, 30), generator=torch.Generator().manual_seed(3))
    texts = []
    for implementation in ("eager", SDPA):
        model.config._attn_implementation = implementation
        texts.append(model.generate(prompts, max_new_tokens=12, do_sample=False))
    assert torch.equal(*texts)


def varlen_stand_in(query, key, value, attention_mask, query_length, is_causal, **options):
    """flash-attn's variable-length attention in plain torch: causality ends at the last key."""
    assert attention_mask is None
    assert is_causal
    assert options["attn_implementation"] is None
    starts = [options[f"cu_seq_lens_{side}"].tolist() for side in "qk"]
    assert query.numel() // query[0, 0].numel() == query_length == starts[0][-1]
    assert key.shape[1] == value.shape[1] == starts[1][-1]
    outputs = []
    for q0, q1, k0, k1 in zip(*(x for s in starts for x in (s[:-1], s[1:])), strict=True):
        assert q1 - q0 <= options["max_length_q"]
        assert k1 - k0 <= options["max_length_k"]
        distance = torch.arange(k1 - k0 - q1 + q0, k1 - k0)[:, None] - torch.arange(k1 - k0)
        window = options["sliding_window"] or k1
        mask = (distance >= 0) & (distance < window)
        states = (s.transpose(1, 2) for s in (query[:, q0:q1], key[:, k0:k1], value[:, k0:k1]))
        out = scaled_dot_product_attention(
            *states, mask, scale=options["softmax_scale"], enable_gqa=True
        )
        outputs.append(out.transpose(1, 2))
    return torch.cat(outputs, dim=1)


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma3"])
def test_flash_hands_the_kernel_segments_that_score_like_padded_rows(architecture, monkeypatch):
    # Stands in for the kernel, which needs a GPU; everything around it is the real thing.
    monkeypatch.setattr(wrpo.prefix.attention, "_flash_attention_forward", varlen_stand_in)
    model = scoring_model(architecture)
    expected = score(model, padded_layout)
    share_prompts(model, FLASH)
    assert_same_scores(expected, score(model, PackedLayout()))


def test_only_a_table_counts_as_segments():
    assert are_segments(torch.tensor([[[[4, 0, 0]]]]))
    for other in (None, torch.ones(2, 5).long(), torch.ones(1, 1, 4, 4).bool(), torch.ones(1)):
        assert not are_segments(other)

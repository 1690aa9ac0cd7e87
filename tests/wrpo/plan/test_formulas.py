"""The formulas against what torch counts, against closed forms, and against real models."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.support.tiny_models import save_tiny, tiny_model
from wrpo.plan.formulas import (
    activation_bytes,
    attended_pairs,
    decode_bound,
    forward_flops,
    kv_bytes,
    training_passes,
    training_state_bytes,
)
from wrpo.plan.model_shape import Shape, shape_of

LLAMA3_8B = Shape(8.03e9, 8.03e9, 32, 4096, 2 * 8 * 128, 4096, "config")


def test_pairs_of_one_sequence_are_half_its_square() -> None:
    assert attended_pairs(0, [100]) == attended_pairs(100, []) == 5000


def test_shared_prompts_cost_the_rows_less_the_prompts_that_are_not_repeated() -> None:
    rows = sum(attended_pairs(0, [300 + response]) for response in (50, 70, 90))
    assert attended_pairs(300, [50, 70, 90]) == pytest.approx(rows - 2 * 300**2 / 2)


def test_full_training_is_six_times_parameters_times_tokens_and_attention() -> None:
    """6ND + 12 x layers x width x length per token, halved for causal attention (PaLM, app. B)."""
    tokens, length = 1_000_000, 2000
    pairs = tokens / length * attended_pairs(0, [length])
    passes = training_passes(checkpointing=False, adapters=False)
    flops = passes * forward_flops(LLAMA3_8B, tokens=tokens, pairs=pairs)
    attention = 12 * 32 * 4096 * length / 2
    assert flops == pytest.approx((6 * 8.03e9 + attention) * tokens)


@pytest.mark.parametrize(
    ("checkpointing", "adapters", "passes"),
    [(False, False, 3), (True, False, 4), (False, True, 2), (True, True, 3)],
)
def test_passes(checkpointing: bool, adapters: bool, passes: int) -> None:
    assert training_passes(checkpointing=checkpointing, adapters=adapters) == passes


def test_operations_are_those_that_torch_counts(tmp_path) -> None:
    """torch counts the whole square of attention and no table of embeddings."""
    folder = save_tiny(tmp_path / "model", "llama", num_hidden_layers=3, hidden_size=64)
    shape = shape_of(str(folder))
    model = tiny_model("llama", num_hidden_layers=3, hidden_size=64)
    model.set_attn_implementation("eager")  # the fused kernel of CPUs is not counted
    assert shape is not None and "config.json" in shape.basis
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    embeddings = model.get_input_embeddings().weight.numel()
    tied = model.config.tie_word_embeddings
    norms = sum(p.numel() for name, p in model.named_parameters() if "norm" in name)
    matrices = shape.parameters - norms - (0 if tied else embeddings)
    length = 48
    with FlopCounterMode(display=False) as counter:
        loss = model(torch.randint(0, 50, (1, length))).logits.float().mean()
    forward = counter.get_total_flops()
    only_matrices = Shape(matrices, matrices, *shape_fields(shape))
    expected = forward_flops(only_matrices, tokens=length, pairs=length**2)
    # The rotary table is one product more, of length x half a head.
    assert forward == pytest.approx(expected, rel=0.002)
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    # The gradients need a row of the first layer's inputs no more than the embeddings give.
    assert counter.get_total_flops() == pytest.approx(2 * expected, rel=0.15)


def shape_fields(shape: Shape) -> tuple[int, int, int, int, str]:
    return shape.layers, shape.hidden, shape.kv_width, shape.attention_width, shape.basis


def test_cache_of_llama3_8b_is_128_kib_per_token() -> None:
    assert kv_bytes(LLAMA3_8B) == 131_072


def test_decoding_is_bound_by_reading_weights_and_cache() -> None:
    """One sequence without context reads 16 GB per token: 3.35 TB/s give 209 tokens a second."""
    alone = decode_bound(LLAMA3_8B, sequences=1, context=0, bytes_per_s=3.35e12)
    assert alone == pytest.approx(3.35e12 / 16.06e9)
    many = decode_bound(LLAMA3_8B, sequences=256, context=500, bytes_per_s=3.35e12)
    assert many == pytest.approx(256 * 3.35e12 / (16.06e9 + 256 * 500 * 131_072))


@pytest.mark.parametrize(
    ("sharded", "gib"), [("nothing", 120), ("optimizer", 66.6), ("gradients", 40), ("all", 15)]
)
def test_zero_divides_what_its_paper_says(sharded: str, gib: float) -> None:
    """7.5B parameters, 16 bytes each with Adam; on 8 GPUs, as figure 1 counts with float32."""
    parts = training_state_bytes(7.5e9, trained=7.5e9, optimizer_bytes=8, gpus=8, sharded=sharded)
    assert sum(parts.values()) / 1e9 == pytest.approx(
        {"nothing": 120, "optimizer": 67.5, "gradients": 41.25, "all": 15}[sharded]
    )
    assert sum(parts.values()) / 1e9 == pytest.approx(gib, rel=0.05)


def test_an_optimizer_in_the_hosts_memory_leaves_16_bit_weights_and_gradients() -> None:
    """ZeRO-Offload, section 3: 2 + 2 bytes of a parameter on the GPU."""
    parts = training_state_bytes(
        8e9, trained=8e9, optimizer_bytes=8, gpus=1, sharded="gradients", offloaded=True
    )
    assert parts == {"weights": 16e9, "gradients": 16e9, "optimizer": 0}


def test_adapters_train_a_little_beside_frozen_weights() -> None:
    parts = training_state_bytes(
        1.01e9, trained=0.01e9, optimizer_bytes=8, gpus=1, sharded="nothing", frozen_bytes=0.5
    )
    assert parts == {
        "weights": pytest.approx(0.54e9),
        "gradients": pytest.approx(0.04e9),
        "optimizer": pytest.approx(0.08e9),
    }


def test_activations_are_those_of_the_paper() -> None:
    """34 s b h bytes for a layer in 16 bits (Korthikanti et al., equation 1)."""
    tokens = 2048
    whole = activation_bytes(LLAMA3_8B, tokens=tokens, checkpointing=False, bytes_per_number=2)
    assert whole == 32 * 34 * tokens * 4096
    less = activation_bytes(LLAMA3_8B, tokens=tokens, checkpointing=True, bytes_per_number=2)
    assert less == 32 * 2 * tokens * 4096 + 34 * tokens * 4096

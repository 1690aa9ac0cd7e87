"""The benchmark runs, compares what is equal, and counts what the lengths alone predict."""

import weakref
from dataclasses import replace

import pytest
import torch

from benchmarks.arms import Bench
from benchmarks.lengths import typical_triples
from benchmarks.meter import saved_bytes
from benchmarks.shapes import SHAPES, attention_pairs, random_model, step_operations
from benchmarks.training_step import HEADER, Setting, measure, parse, run

SMALL = replace(SHAPES["tiny"], hidden=64, intermediate=128, layers=1, heads=2, key_value_heads=2)
"""Tokens and comparisons are those of `tiny`, which does eight times the arithmetic."""


@pytest.fixture(scope="module")
def bench():
    return Bench(SMALL, device="cpu", attention="sdpa", checkpointing=False, lm_head="scored")


@pytest.mark.slow
def test_every_arm_computes_exactly_the_tokens_that_the_lengths_predict(bench):
    names = ["padded", "grouped", "packed", "shared", "trl"]
    for result in measure(bench, names, Setting("short", 2, 1), repeats=1):
        assert result.arm.tokens == result.arm.expected
        assert result.seconds[0] > 0


def test_the_arms_on_triples_have_the_same_loss(bench):
    triples = typical_triples("short", 2, 1)
    arms = [bench.arm(name, triples, 2) for name in ("padded", "packed", "shared")]
    padded, packed, shared = (bench.forward(arm, 0).item() for arm in arms)
    assert packed == pytest.approx(padded, abs=1e-5)
    assert shared == pytest.approx(padded, abs=1e-5)
    bench.lm_head = "all"
    everything = bench.forward(bench.arm("padded", triples, 2), 0).item()
    bench.lm_head = "scored"
    assert everything == pytest.approx(padded, abs=1e-5)


def test_shared_prompts_keep_less_in_proportion_to_their_tokens(bench):
    padded, shared = measure(bench, ["padded", "shared"], Setting("uf", 2, 1), repeats=1)
    tokens = padded.arm.tokens / shared.arm.tokens
    assert padded.saved_bytes / shared.saved_bytes > 0.98 * tokens


def test_what_an_arm_kept_is_freed_when_it_is_over(bench):
    """Also where a node keeps its own output, which a hook that returns it would never free."""
    start = torch.ones(1000, requires_grad=True)
    kept = []

    def forward():
        result = start.exp()
        kept.append(weakref.ref(result))
        return result.sum()

    assert saved_bytes(forward, []) == 4000
    assert kept[0]() is None


def test_attention_pairs_are_counted_by_segment(bench):
    lengths = [(10, (3, 4, 5))]
    shared = bench.arm("shared", lengths, 1).batches[0]
    own = [9 + 4, 5, 6]
    assert attention_pairs(shared) == sum(n * (n + 1) // 2 for n in own) + 9 * (5 + 6)
    padded = bench.arm("padded", lengths, 1).batches[0]
    assert attention_pairs(padded) == 3 * 15 * 16 // 2


@pytest.mark.parametrize("name", ["tiny", "0.5b", "8b"])
def test_operations_per_token_are_eight_per_weight_of_the_layers(name):
    shape = SHAPES[name].with_layers(2)
    model = random_model(shape, seed=0, device="meta", attention="sdpa")
    weights = sum(p.numel() for p in model.model.layers.parameters() if p.ndim == 2)
    assert step_operations(shape, tokens=7, scored=0, pairs=0) == 8 * 7 * weights
    head = model.get_output_embeddings().weight.numel()
    assert step_operations(shape, tokens=0, scored=3, pairs=0) == 8 * 3 * head


def test_saved_bytes_count_a_storage_once_and_no_parameters():
    weight = torch.ones(4, requires_grad=True)
    data = torch.ones(100, 4)
    assert saved_bytes(lambda: ((data * weight) * (data[:50] @ weight).sum()).sum(), [weight]) == (
        data.nbytes + data.nbytes + 4  # the data, the product of the data and the weight, the sum
    )


@pytest.mark.slow
def test_the_command_prints_one_line_per_setting_and_arm(monkeypatch):
    monkeypatch.setitem(SHAPES, "tiny", SMALL)
    table = list(run(parse(["--quick"])))
    assert [row[:2] for row in table] == [
        [f"{kind}, 2 per batch", arm]
        for kind in ("uf", "short")
        for arm in ("padded", "packed", "shared", "trl")
    ]
    assert all(len(row) == len(HEADER) and row[2] == row[3] for row in table)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_runs_on_a_gpu():
    arguments = ["--quick", "--device", "cuda", "--shape", "0.5b", "--layers", "2"]
    arguments += ["--attention", "varlen"]
    table = list(run(parse(arguments)))
    assert len(table) == 10
    assert all(row[2] == row[3] for row in table)

"""Synthetic lengths have the statistics of the data sets they stand for."""

import pytest

from benchmarks.lengths import (
    CENSUS,
    KINDS,
    packed_tokens,
    padded_tokens,
    pair_tokens,
    shared_tokens,
    token_ratios,
    triple_lengths,
    typical_triples,
)

# Mean prompt and response; share of prompt copies; padding at 2 and 4 prompts per batch; tokens of
# padded rows over the shared layout at 2.
MEASURED = {
    "uf": (185, 345, 0.231, 0.352, 0.467, 2.01),
    "long": (1499, 297, 0.556, 0.169, 0.257, 2.71),
    "short": (60, 391, 0.087, 0.374, 0.474, 1.75),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_census_is_that_of_the_data_set(kind):
    prompt, response, repeated, padding2, padding4, ratio = MEASURED[kind]
    triples = triple_lengths(kind, CENSUS, seed=0)
    prompts, real = sum(p for p, _ in triples), packed_tokens(triples)
    assert prompts / CENSUS == pytest.approx(prompt, rel=0.02)
    assert (real - 3 * prompts) / (3 * CENSUS) == pytest.approx(response, rel=0.02)
    assert 2 * prompts / real == pytest.approx(repeated, abs=0.005)
    assert 1 - 1 / token_ratios(triples, 2)[0] == pytest.approx(padding2, abs=0.01)
    assert 1 - 1 / token_ratios(triples, 4)[0] == pytest.approx(padding4, abs=0.01)
    assert token_ratios(triples, 2)[1] == pytest.approx(ratio, rel=0.015)


def test_equal_arguments_give_equal_lengths_and_another_seed_others():
    assert triple_lengths("uf", 5, 1) == triple_lengths("uf", 9, 1)[:5]
    assert triple_lengths("uf", 5, 1) != triple_lengths("uf", 5, 2)


def test_tokens_of_a_batch_counted_by_hand():
    batch = [(10, (1, 2, 3)), (4, (5, 6, 20))]
    assert padded_tokens(batch) == 6 * 24
    assert pair_tokens(batch) == 4 * 24
    assert packed_tokens(batch) == 3 * 14 + 37
    assert shared_tokens(batch) == 9 + 3 + 37 + 6  # each response begins with a prompt token


@pytest.mark.parametrize(("kind", "size", "batches"), [("uf", 2, 2), ("uf", 4, 1), ("long", 2, 2)])
def test_typical_batches_have_the_token_ratios_of_the_census(kind, size, batches):
    triples = typical_triples(kind, size, batches)
    assert len(triples) == size * batches
    expected = token_ratios(triple_lengths(kind, CENSUS, seed=0), size)
    assert token_ratios(triples, size) == pytest.approx(expected, rel=0.03)

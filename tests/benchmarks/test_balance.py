"""What balanced micro-batches save on 8 lock-step ranks, counted in tokens."""

import pytest

from benchmarks.balance import simulate
from benchmarks.lengths import KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_balanced_ranks_wait_under_a_twentieth_of_the_time(kind):
    results = simulate(kind)
    assert results["shared, balanced"].waiting < 0.05
    assert results["shared, random"].waiting > 0.15
    # With padded rows, where cost is not what is balanced, it gains less, but it gains.
    assert results["padded, balanced"].critical_path < results["padded, random"].critical_path


@pytest.mark.parametrize(("kind", "ratio"), [("uf", 3.0), ("long", 3.0), ("short", 2.3)])
def test_sharing_and_balancing_shorten_the_critical_path_of_padded_random_batches(kind, ratio):
    results = simulate(kind)
    before, after = results["padded, random"], results["shared, balanced"]
    assert before.critical_path >= ratio * after.critical_path
    assert after.largest < before.largest / 2

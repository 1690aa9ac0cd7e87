"""InfiFPO's fused reference and CGPO's consensus, against hand calculation and golden values."""

import math

import pytest

from wrpo.objectives.reference import (
    Spread,
    aligned_consensus,
    entropy_spread,
    fused_reference,
    source_weights,
)

# The example row of the authors' data description: means under the pivot and three sources.
PIVOT = {"chosen": -0.0697494969, "rejected": -0.1394491941}
SOURCES = {
    "chosen": [-0.2378779650, -0.2621479332, -0.3679310381],
    "rejected": [-0.2555949986, -0.2677876949, -0.3368484676],
}


def fused(response: str, **options) -> float:
    options = {"rule": "max_margin", "clip": True} | options
    return fused_reference(
        PIVOT[response], SOURCES[response], preferred=response == "chosen", **options
    )


def test_max_margin_with_clipping_on_the_published_example_row():
    assert fused("chosen") == PIVOT["chosen"]
    assert fused("rejected") == SOURCES["rejected"][2]
    beta, policy = 2.5, PIVOT
    logit = beta * (policy["chosen"] - fused("chosen") - policy["rejected"] + fused("rejected"))
    assert logit == pytest.approx(-0.4934981838, abs=1e-9)
    assert math.log1p(math.exp(-logit)) == pytest.approx(0.9700348378, abs=1e-9)


@pytest.mark.parametrize("preferred", [True, False])
def test_clipping_keeps_each_source_on_its_side_of_the_pivot(preferred):
    value = fused_reference(-1.0, [-0.4, -1.9], preferred=preferred, rule="max_margin", clip=True)
    assert value == (-0.4 if preferred else -1.9)


def test_without_clipping_the_source_that_differs_most_is_taken():
    value = fused_reference(-1.0, [-0.4, -1.9], preferred=True, rule="max_margin", clip=False)
    assert value == -1.9


def test_average_counts_the_pivot_as_a_source():
    value = fused_reference(-1.0, [-0.4, -1.9], preferred=True, rule="average", clip=False)
    assert value == pytest.approx(-1.1)
    clipped = fused_reference(-1.0, [-0.4, -1.9], preferred=True, rule="average", clip=True)
    assert clipped == pytest.approx((-1.0 - 0.4 - 1.0) / 3)


def test_confidence_weighs_by_the_inverse_of_the_distance_to_certainty():
    value = fused_reference(-1.0, [-0.5, -2.0], preferred=True, rule="confidence", clip=False)
    assert value == pytest.approx((-1.0 * 1 - 0.5 * 2 - 2.0 * 0.5) / 3.5, abs=1e-5)


def test_a_source_equal_to_the_pivot_is_plain_dpo_for_every_rule():
    for rule in ("max_margin", "average", "confidence"):
        for preferred in (True, False):
            value = fused_reference(-0.7, [-0.7], preferred=preferred, rule=rule, clip=True)
            assert value == pytest.approx(-0.7, abs=1e-12)


def test_spread_is_the_population_deviation_and_never_zero():
    assert entropy_spread([1.0, 3.0]) == Spread(2.0, 1.0)
    assert entropy_spread([2.0, 2.0]) == Spread(2.0, 1e-6)


def test_surer_sources_weigh_more_and_none_less_than_the_floor():
    spreads = [Spread(1.0, 0.5), Spread(2.0, 1.0), Spread(1.0, 1.0)]
    weights = source_weights([0.5, 2.0, 1e9], spreads, temperature=0.8, floor=0.02)
    powers = [math.exp(1 / 0.8), 1.0, math.exp(-5 / 0.8)]
    expected = [0.02 + 0.94 * power / sum(powers) for power in powers]
    assert weights == pytest.approx(expected)
    assert sum(weights) == pytest.approx(1.0)
    assert weights[0] > weights[1] > weights[2] >= 0.02


def test_entropies_on_another_scale_give_the_same_weights():
    plain = source_weights([0.5, 2.0], [Spread(1.0, 0.5), Spread(1.0, 1.0)], temperature=1, floor=0)
    scaled = source_weights(
        [0.05, 0.2], [Spread(0.1, 0.05), Spread(0.1, 0.1)], temperature=1, floor=0
    )
    assert scaled == pytest.approx(plain)


def test_aligned_consensus_has_the_mean_of_the_initial_policy_and_its_own_differences():
    aligned = aligned_consensus([-2.0, -1.0, -3.0], [-0.5, -0.5, -1.1])
    assert sum(aligned) / 3 == pytest.approx(-0.7)
    assert aligned[1] - aligned[0] == pytest.approx(1.0)

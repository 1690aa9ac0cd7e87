"""Estimates: which interval for which values, and tests against closed forms."""

import math

import numpy as np
import pytest

from wrpo.statistics.estimates import differences, holm, means, standard_deviation, t_interval, wins
from wrpo.statistics.intervals import wilson


def test_shares_get_wilsons_interval_and_other_means_the_bootstrap() -> None:
    right = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    first, second = means(right)
    bounds = wilson(np.array([3.0]), 4, level=0.95)
    assert (first.value, first.method, first.n) == (0.75, "wilson", 4)
    assert (first.low, first.high) == (bounds.low[0], bounds.high[0])
    assert (second.low, second.high) == (first.low, first.high)
    rewards = np.random.default_rng(0).normal(size=(40, 1))
    (estimate,) = means(rewards)
    assert estimate.method == "bootstrap-t"
    assert math.isnan(estimate.p)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0] * 4, (1.0, 10.0)),
        ([10.0] * 4, (1.0, 10.0)),
        ([7.3] * 10, (1.0, 10.0)),
        ([100.0] * 20, (0.0, 100.0)),
        ([0.0], (0.0, 1.0)),
        ([1.0, 1.0, 0.0, 1.0], (0.0, 10.0)),
        ([10.0] * 30 + [9.0], (1.0, 10.0)),
        ([1.0] * 40 + [9.0, 10.0] * 6, (1.0, 10.0)),
    ],
)
def test_ratings_have_an_interval_on_their_scale(
    values: list[float], scale: tuple[float, float]
) -> None:
    (found,) = means(np.array(values)[:, None], scale=scale)
    assert found.method in ("equal", "t", "bootstrap-t")
    assert scale[0] <= found.low <= found.value <= found.high <= scale[1]
    assert found.low < found.high


def test_equal_ratings_have_wilsons_interval_stretched_to_the_scale() -> None:
    share = wilson(np.array([8.0]), 8, level=0.95)
    (found,) = means(np.full((8, 1), 10.0), scale=(1.0, 10.0))
    assert found.low == pytest.approx(1 + 9 * share.low[0]) and found.high == 10.0
    (middle,) = means(np.full((8, 1), 4.0), scale=(1.0, 10.0))
    assert middle.high - 4.0 == pytest.approx((10 - 4) * (1 - share.low[0]))
    assert 4.0 - middle.low == pytest.approx((4 - 1) * (1 - share.low[0]))


def test_differences_of_ratings_are_no_shares() -> None:
    first, second = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])
    (found,) = differences(first, second[:, None], shares=False)
    assert found.method == "t"


def test_differences_of_shares_get_tangos_interval_and_mcnemars_p() -> None:
    first = np.array([1.0] * 15 + [0.0] * 5 + [1.0] * 40)
    second = np.array([0.0] * 15 + [1.0] * 5 + [1.0] * 40)
    (estimate,) = differences(first, second[:, None])
    assert estimate.method == "tango"
    assert estimate.value == pytest.approx(10 / 60)
    assert estimate.p == pytest.approx(0.041389, abs=1e-6)  # binomial, 15 of 20
    assert estimate.sign == 1


def test_pairing_takes_out_what_two_models_share() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.normal(scale=10.0, size=500)
    other = difficulty + rng.normal(scale=0.1, size=500)
    (estimate,) = differences(difficulty + 0.5, other[:, None])
    assert estimate.sign == 1
    assert estimate.high - estimate.low < 0.05


def test_equal_answers_show_no_difference() -> None:
    (estimate,) = differences(np.ones(20), np.ones((20, 1)))
    assert (estimate.value, estimate.sign, estimate.p) == (0.0, 0, 1.0)
    (rewards,) = differences(np.full(20, 2.5), np.full((20, 1), 2.5))
    assert (rewards.value, rewards.sign) == (0.0, 0) and math.isnan(rewards.p)
    (shifted,) = differences(np.full(2, 2.5), np.full((2, 1), 1.5))
    assert (shifted.value, shifted.sign) == (1.0, 0), "two equal differences show nothing"


def test_a_difference_on_few_prompts_is_marked() -> None:
    rewards = np.zeros(100)
    rewards[:5] = 2.0
    (estimate,) = differences(rewards, np.full((100, 1), 0.5) * (rewards[:, None] > 0))
    assert estimate.few
    assert estimate.method == "t"


def test_one_prompt_has_no_interval_unless_it_is_a_share() -> None:
    (reward,) = means(np.array([[2.5]]))
    assert math.isnan(reward.low)
    (share,) = means(np.array([[1.0]]))
    assert (share.low, share.high) == (pytest.approx(0.2065, abs=1e-4), 1.0)


def test_wins_count_ties_half_and_agree_with_the_sign_test() -> None:
    first = np.array([3.0] * 6 + [1.0] * 2 + [2.0] * 2)
    second = np.array([1.0] * 6 + [3.0] * 2 + [2.0] * 2)
    estimate = wins(first, second)
    assert estimate.value == pytest.approx(0.7)
    assert estimate.low < 0.5 < estimate.high
    assert estimate.p == pytest.approx(0.2890625)  # binomial, 6 of 8
    back = wins(second, first)
    assert (back.low, back.high) == pytest.approx((1 - estimate.high, 1 - estimate.low))


def test_values_must_be_prompts_by_models() -> None:
    with pytest.raises(ValueError, match="prompts, models"):
        means(np.ones(5))


def test_t_interval_of_three_seeds_matches_the_table() -> None:
    estimate = t_interval([1.0, 2.0, 3.0])
    half = 4.302653 / math.sqrt(3)  # t(2 degrees of freedom, 0.975) * sd 1 / sqrt(n)
    assert (estimate.value, estimate.n) == (2.0, 3)
    assert estimate.low == pytest.approx(2.0 - half, abs=1e-5)
    assert estimate.high == pytest.approx(2.0 + half, abs=1e-5)
    assert estimate.p == pytest.approx(0.0741799, abs=1e-6)


def test_one_seed_has_no_interval_and_no_sign() -> None:
    estimate = t_interval([0.4])
    assert math.isnan(estimate.low)
    assert estimate.sign == 0


def test_equal_seeds_have_no_interval_and_no_sign() -> None:
    estimate = t_interval([0.5, 0.5])
    assert math.isnan(estimate.low) and math.isnan(estimate.high) and math.isnan(estimate.p)
    assert (estimate.value, estimate.sign) == (0.5, 0)


def test_standard_deviation_divides_by_n_minus_one() -> None:
    assert standard_deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))


def test_holm_multiplies_by_the_tests_left_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_holm_leaves_out_what_was_not_tested() -> None:
    adjusted = holm([math.nan, 0.04])
    assert math.isnan(adjusted[0])
    assert adjusted[1] == 0.04

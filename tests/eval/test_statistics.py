"""Intervals and tests against closed forms and simulation."""

import math

import numpy as np
import pytest

from eval.statistics import PairedBootstrap, holm, standard_deviation, t_interval


def test_bootstrap_interval_of_a_mean_matches_the_normal_approximation() -> None:
    values = np.random.default_rng(1).normal(size=(2000, 1))
    estimate = PairedBootstrap(values).mean(0)
    error = values.std() / math.sqrt(2000)
    assert estimate.value == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert estimate.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_pairing_takes_out_what_two_models_share() -> None:
    rng = np.random.default_rng(2)
    difficulty = rng.normal(scale=10.0, size=500)
    values = np.stack([difficulty + 0.5, difficulty + rng.normal(scale=0.1, size=500)], axis=1)
    estimate = PairedBootstrap(values).difference(0, 1)
    assert estimate.sign == 1
    assert estimate.high - estimate.low < 0.05


def test_bootstrap_interval_covers_the_true_difference_about_95_times_in_100() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(300):
        answers = rng.random((150, 2)) < np.array([0.7, 0.6])
        estimate = PairedBootstrap(answers, resamples=400, seed=trial).difference(0, 1)
        covered += estimate.low <= 0.1 <= estimate.high
    assert 0.90 <= covered / 300 <= 0.98


def test_p_value_is_below_5_percent_exactly_when_the_interval_leaves_out_zero() -> None:
    rng = np.random.default_rng(4)
    seen = set()
    for shift in np.linspace(0.0, 0.5, 15):
        values = rng.normal(size=(100, 2)) + np.array([shift, 0.0])
        estimate = PairedBootstrap(values, resamples=2000).difference(0, 1)
        seen.add(estimate.sign)
        assert (estimate.p < 0.05) == (estimate.sign != 0)
    assert seen == {0, 1}


def test_equal_answers_show_no_difference() -> None:
    estimate = PairedBootstrap(np.ones((20, 2))).difference(0, 1)
    assert (estimate.value, estimate.sign, estimate.p) == (0.0, 0, 1.0)


def test_bootstrap_is_the_same_every_time() -> None:
    values = np.random.default_rng(5).normal(size=(50, 2))
    assert PairedBootstrap(values).difference(0, 1) == PairedBootstrap(values).difference(0, 1)


def test_bootstrap_over_many_prompts_is_drawn_in_chunks_of_the_right_total() -> None:
    bootstrap = PairedBootstrap(np.ones((5000, 1)), resamples=1001)
    assert bootstrap.means.shape == (1001, 1)
    assert np.all(bootstrap.means == 1.0)


def test_bootstrap_refuses_a_flat_list() -> None:
    with pytest.raises(ValueError, match="prompts, models"):
        PairedBootstrap(np.ones(5))


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


def test_equal_seeds_have_an_interval_of_no_width() -> None:
    estimate = t_interval([0.5, 0.5])
    assert (estimate.low, estimate.high, estimate.p) == (0.5, 0.5, 0.0)


def test_standard_deviation_divides_by_n_minus_one() -> None:
    assert standard_deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))


def test_holm_multiplies_by_the_tests_left_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_holm_leaves_out_what_was_not_tested() -> None:
    adjusted = holm([math.nan, 0.04])
    assert math.isnan(adjusted[0])
    assert adjusted[1] == 0.04

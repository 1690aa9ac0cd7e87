"""Intervals against published values, their own tests, and simulation."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from benchmarks.coverage import Situation, measure, measure_percentile, situations
from wrpo.statistics.estimates import differences, wins
from wrpo.statistics.intervals import (
    EXACT_BELOW,
    FEWEST_VARIED,
    mcnemar,
    normal_quantile,
    student_t,
    studentised_bootstrap,
    tango,
    varied,
    wilson,
)

HARD = ("0.98", "judge's verdicts")


@pytest.mark.parametrize(("successes", "n"), [(0, 30), (1, 30), (27, 30), (30, 30), (431, 600)])
def test_wilson_is_scipys(successes: int, n: int) -> None:
    found = wilson(np.array([successes]), n, level=0.95)
    reference = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert found.low[0] == pytest.approx(reference.low, abs=1e-12)
    assert found.high[0] == pytest.approx(reference.high, abs=1e-12)


def test_tango_solves_its_own_score_equation_with_the_likelihood_maximised_numerically() -> None:
    """The nuisance parameter by a fine grid instead of the quadratic formula."""
    b, c, n = 9, 3, 50
    found = tango(np.array([b]), np.array([c]), n, level=0.95)
    for bound, z in ((found.low[0], 1.959964), (found.high[0], -1.959964)):
        only_second = np.linspace(max(0.0, -bound), (1 - bound) / 2, 2_000_001)[1:-1]
        likelihood = (
            b * np.log(only_second + bound)
            + c * np.log(only_second)
            + (n - b - c) * np.log(1 - 2 * only_second - bound)
        )
        nuisance = only_second[likelihood.argmax()]
        score = (b - c - n * bound) / math.sqrt(n * (2 * nuisance + bound * (1 - bound)))
        assert score == pytest.approx(z, abs=1e-4)


def test_tango_turns_around_with_the_order_of_the_models() -> None:
    one = tango(np.array([9, 0, 30]), np.array([3, 0, 0]), 30, level=0.95)
    other = tango(np.array([3, 0, 0]), np.array([9, 0, 30]), 30, level=0.95)
    assert one.low == pytest.approx(-other.high, abs=1e-9)
    assert one.p == pytest.approx(other.p)
    assert one.low.min() >= -1
    assert one.high.max() <= 1


def test_mcnemars_p_is_below_five_percent_only_where_tango_leaves_out_zero() -> None:
    won, lost = (grid.ravel() for grid in np.meshgrid(np.arange(25), np.arange(25)))
    found = tango(won, lost, 60, level=0.95)
    outside = (found.low > 0) | (found.high < 0)
    many = won + lost >= EXACT_BELOW
    assert np.array_equal(found.p[many] < 0.05, outside[many])
    assert not (found.p[~many] < 0.05)[~outside[~many]].any()
    assert mcnemar(np.array([30.0]), np.array([15.0]))[0] == pytest.approx(0.025347, abs=1e-6)


def test_mcnemar_is_the_exact_binomial_test_for_few_discordant_pairs() -> None:
    won, lost = (grid.ravel() for grid in np.meshgrid(np.arange(25), np.arange(25)))
    few = won + lost < 25
    expected = [
        binomtest(int(b), int(b + c)).pvalue if b + c else 1.0
        for b, c in zip(won[few], lost[few], strict=True)
    ]
    assert mcnemar(won[few], lost[few]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("won", "lost", "p"), [(5, 0, 0.0625), (6, 0, 0.03125), (0, 6, 0.03125), (9, 2, 0.0654297)]
)
def test_paired_comparisons_of_few_discordant_pairs_have_the_exact_p(
    won: int, lost: int, p: float
) -> None:
    first = np.array([1.0] * won + [0.0] * lost + [1.0] * 30)
    second = np.array([0.0] * won + [1.0] * lost + [1.0] * 30)
    [estimate] = differences(first, second[:, None])
    assert estimate.p == pytest.approx(p, abs=1e-6)
    assert wins(first, second).p == pytest.approx(p, abs=1e-6)


def test_bootstrap_p_is_below_five_percent_exactly_where_the_interval_leaves_out_zero() -> None:
    shifts = np.linspace(-0.5, 0.5, 41)
    values = np.random.default_rng(4).normal(size=(100, 41)) + shifts
    found = studentised_bootstrap(values, level=0.95, resamples=2000)
    outside = (found.low > 0) | (found.high < 0)
    clear = np.abs(found.p - 0.05) > 2 / 2000  # quantiles interpolate between resamples
    assert np.array_equal(found.p[clear] < 0.05, outside[clear])
    assert 0 < outside[clear].sum() < clear.sum()


def test_bootstrap_of_many_normal_values_is_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(size=(2000, 1))
    found = studentised_bootstrap(values, level=0.95)
    error = values.std() / math.sqrt(2000)
    assert found.low[0] == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert found.high[0] == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_bootstrap_leans_towards_the_long_tail() -> None:
    values = np.random.default_rng(2).exponential(size=(60, 1))
    found = studentised_bootstrap(values, level=0.95)
    assert found.high[0] - values.mean() > values.mean() - found.low[0]


def test_bootstrap_draws_the_same_every_time_whatever_the_chunks() -> None:
    values = np.random.default_rng(5).normal(size=(5000, 2))
    one = studentised_bootstrap(values, level=0.95, resamples=1001)
    other = studentised_bootstrap(values, level=0.95, resamples=1001)
    assert np.array_equal(one.low, other.low)


def test_columns_that_hardly_vary_get_students_t() -> None:
    values = np.zeros((100, 2))
    values[: FEWEST_VARIED - 1, 0] = 1.5
    values[:FEWEST_VARIED, 1] = 1.5
    found = studentised_bootstrap(values, level=0.95, resamples=500)
    plain = student_t(values, level=0.95)
    assert varied(values).tolist() == [FEWEST_VARIED - 1, FEWEST_VARIED]
    assert found.low[0] == plain.low[0]
    assert found.low[1] != plain.low[1]


def test_bootstrap_refuses_a_flat_list() -> None:
    with pytest.raises(ValueError, match="columns"):
        studentised_bootstrap(np.ones(5), level=0.95)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 prompts"):
        wilson(np.array([0]), 0, level=0.95)


def test_the_normal_quantile() -> None:
    assert normal_quantile(0.95) == pytest.approx(1.959964, abs=1e-6)


def usual(situation: Situation) -> bool:
    """Not one of those where an interval of few prompts is wider than it need be."""
    return not (situation.differing < 4.5 or any(word in situation.name for word in HARD))


def quick(situation: Situation) -> bool:
    """The rest is in the table of benchmarks/README.md."""
    return situation.n < 600 or "correlation 0.3" in situation.name or "0.9" in situation.name


@pytest.mark.parametrize(
    "situation",
    [s for s in situations() if usual(s) and quick(s)],
    ids=lambda s: f"{s.name}, n {s.n}",
)
def test_intervals_hold_the_truth_93_to_97_times_in_100(situation: Situation) -> None:
    assert 0.93 <= measure(situation, repetitions=3000).held <= 0.97


@pytest.mark.parametrize(
    "situation",
    [s for s in situations() if not usual(s) and quick(s)],
    ids=lambda s: f"{s.name}, n {s.n}",
)
def test_where_hardly_a_prompt_differs_intervals_are_wide_and_never_narrow(
    situation: Situation,
) -> None:
    assert measure(situation, repetitions=3000).held >= 0.93


def test_the_percentile_bootstrap_would_not_have_passed() -> None:
    (situation,) = [s for s in situations() if (s.name, s.n) == ("share 0.95", 30)]
    assert measure_percentile(situation, repetitions=2000).held < 0.85

import math

import pytest

from wrpo.errors import RecipeError
from wrpo.objectives.options import alpha_at


def test_linear_starts_at_zero_and_stops_one_step_short_of_its_end():
    values = [alpha_at("linear", end=0.1, step=t, max_steps=311) for t in range(311)]
    assert values[0] == 0.0
    assert values[1] == pytest.approx(0.1 / 311)
    assert values[155] == pytest.approx(0.1 * 155 / 311)
    assert values[310] == pytest.approx(0.1 * 310 / 311)


def test_linear_goes_from_start_to_end_also_downwards():
    values = [alpha_at("linear", start=0.8, end=0.2, step=t, max_steps=3) for t in range(4)]
    assert values == pytest.approx([0.8, 0.6, 0.4, 0.2])


def test_cosine_goes_from_start_to_end_slowly_at_both_ends():
    values = [alpha_at("cosine", start=0.1, end=0.5, step=t, max_steps=4) for t in range(5)]
    quarter = (1 - math.cos(math.pi / 4)) / 2
    assert values == pytest.approx([0.1, 0.1 + 0.4 * quarter, 0.3, 0.5 - 0.4 * quarter, 0.5])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_no_schedule_passes_its_end(schedule):
    assert alpha_at(schedule, end=0.3, step=50, max_steps=10) == pytest.approx(0.3)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_is_at_its_start_before_the_number_of_steps_is_known(schedule):
    assert alpha_at(schedule, start=0.05, end=0.3, step=0, max_steps=0) == pytest.approx(0.05)


@pytest.mark.parametrize("step", [0, 3, 10])
def test_constant_ignores_step_and_start(step):
    assert alpha_at("constant", start=0.1, end=0.7, step=step, max_steps=10) == 0.7


def test_unknown_schedule_is_refused():
    with pytest.raises(RecipeError, match="quadratic"):
        alpha_at("quadratic", end=0.1, step=0, max_steps=10)

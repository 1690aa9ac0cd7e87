import pytest

from wrpo.alpha import alpha_at
from wrpo.errors import RecipeError


def test_linear_starts_at_zero_and_stops_one_step_short_of_alpha():
    values = [alpha_at("linear", alpha=0.1, step=t, max_steps=311) for t in range(311)]
    assert values[0] == 0.0
    assert values[1] == pytest.approx(0.1 / 311)
    assert values[155] == pytest.approx(0.1 * 155 / 311)
    assert values[310] == pytest.approx(0.1 * 310 / 311)


def test_linear_never_exceeds_alpha():
    assert alpha_at("linear", alpha=0.3, step=50, max_steps=10) == 0.3


def test_linear_is_zero_before_the_number_of_steps_is_known():
    assert alpha_at("linear", alpha=0.3, step=0, max_steps=0) == 0.0


@pytest.mark.parametrize("step", [0, 3, 10])
def test_constant_ignores_the_step(step):
    assert alpha_at("constant", alpha=0.7, step=step, max_steps=10) == 0.7


def test_unknown_schedule_is_refused():
    with pytest.raises(RecipeError, match="cosine"):
        alpha_at("cosine", alpha=0.1, step=0, max_steps=10)

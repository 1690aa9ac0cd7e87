import math

import pytest

from wrpo.distillation.choose import is_tied, teacher_weights


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_the_likeliest_teacher_is_chosen_whatever_the_order(names: tuple[str, str]) -> None:
    costs = {"a": 1.0010, "b": 1.0000}
    found = teacher_weights({name: costs[name] for name in names}, "min_ce")
    assert found == {"a": 0.0, "b": 1.0}


def test_in_bfloat16_close_costs_tie_and_the_first_wins() -> None:
    assert teacher_weights({"a": 1.0010, "b": 1.0000}, "min_ce", upstream=True)["a"] == 1.0
    assert teacher_weights({"a": 1.0300, "b": 1.0000}, "min_ce", upstream=True)["b"] == 1.0


def test_ties_are_known_whatever_decides_them() -> None:
    close = {"b": 1.0010, "a": 1.0000}
    assert not is_tied(close) and is_tied(close, upstream=True)
    even = {"b": 1.0, "c": 2.0, "a": 1.0}
    assert is_tied(even) and is_tied(even, upstream=True)
    assert teacher_weights(even, "min_ce")["a"] == 1.0
    assert teacher_weights(even, "min_ce", upstream=True)["b"] == 1.0


def test_equal_costs_share_and_others_weigh_by_reciprocal_perplexity() -> None:
    assert teacher_weights({"a": 2.0, "b": 2.0}, "avg_ce") == {"a": 0.5, "b": 0.5}
    found = teacher_weights({"a": 0.5, "b": 2.0}, "avg_ce")
    a, b = math.exp(math.exp(-0.5)), math.exp(math.exp(-2.0))
    assert found == pytest.approx({"a": a / (a + b), "b": b / (a + b)})

"""The words for each outcome."""

import dataclasses
import math

import pytest

from eval.reporting.compare import Comparison
from eval.reporting.sections.verdict import MOST_NAMED, overview, sentence
from wrpo.statistics.estimates import Estimate


def comparison(low: float, high: float, *, direction: int = 1, holm_p: float = 0.01) -> Comparison:
    estimate = Estimate((low + high) / 2, low, high, 100, 0.01)
    return Comparison("quiz", "reward", "WRPO", "dpo", "DPO", estimate, direction, holm_p)


def test_an_interval_above_zero_is_called_better() -> None:
    text = sentence(comparison(0.1, 0.3))
    assert (
        text
        == "WRPO is better than DPO: reward +0.200, 95% interval +0.100 to +0.300, 100 prompts."
    )


def test_an_interval_below_zero_is_called_worse() -> None:
    assert sentence(comparison(-0.3, -0.1)).startswith("WRPO is worse than DPO: reward -0.200")


def test_an_interval_around_zero_is_called_no_difference_shown() -> None:
    text = sentence(comparison(-0.1, 0.3))
    assert text.startswith("No difference shown between WRPO and DPO: reward +0.100")


@pytest.mark.parametrize(("low", "words"), [(0.1, "worse than"), (-0.3, "better than")])
def test_less_is_better_turns_the_words_around(low: float, words: str) -> None:
    assert words in sentence(comparison(low, low + 0.2, direction=-1))


def test_a_difference_that_many_comparisons_explain_carries_a_caution() -> None:
    text = sentence(comparison(0.1, 0.3, holm_p=0.12))
    assert text.startswith("No difference shown between WRPO and DPO")
    assert "Holm's p = 0.12" in text
    assert "Holm" not in sentence(comparison(-0.1, 0.3, holm_p=0.12))


def test_one_seed_gets_no_interval() -> None:
    alone = Estimate(0.2, math.nan, math.nan, 1)
    lone = Comparison("quiz", "acc", "WRPO", "sft", "SFT alone", alone)
    assert "acc +0.200, one seed, so no interval" in sentence(lone, unit="seeds")
    assert sentence(lone, unit="seeds").startswith("No difference shown")
    equal = dataclasses.replace(lone, estimate=dataclasses.replace(alone, n=2))
    assert "acc +0.200, the same on all 2 seeds, so no interval" in sentence(equal, unit="seeds")


def test_the_overview_sorts_opponents_by_outcome() -> None:
    text = overview([comparison(0.1, 0.2), comparison(0.3, 0.4), comparison(-1, 1)])
    assert text == ("WRPO is better than DPO and DPO; no difference shown between WRPO and DPO.")


def test_a_fused_model_of_another_objective_has_its_own_name() -> None:
    found = dataclasses.replace(comparison(0.1, 0.2), fused="the fused model (DPO)")
    assert sentence(found).startswith("The fused model (DPO) is better than DPO: ")
    assert overview([found]) == "The fused model (DPO) is better than DPO."


def test_a_long_list_of_opponents_is_counted() -> None:
    found = [comparison(0.1, 0.2)] * (MOST_NAMED + 1)
    assert overview(found).endswith(f"is better than {MOST_NAMED + 1} others (table below).")
    assert "others" not in overview(found[:-1])

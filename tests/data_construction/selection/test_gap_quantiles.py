import math

from data_construction.selection.select import Response, Window, best_and_worst, quantile_window


def test_each_source_of_a_prompt_gives_one_gap_and_ties_none() -> None:
    responses = [
        *(Response("a", n, f"a{n}", score) for n, score in enumerate([0.25, 1.0, 0.5])),
        *(Response("b", n, f"b{n}", 0.5) for n in range(2)),
        Response("c", 0, "c0", 2.0),
    ]
    assert [pair.gap for pair in best_and_worst(responses)] == [0.75]
    assert best_and_worst([]) == []


def test_the_window_lies_between_observed_gaps_in_any_order() -> None:
    gaps = [5.0, 1.0, 3.0, 2.0, 4.0]
    assert quantile_window(gaps, 0.25, 0.75) == Window(2.0, 4.0)
    assert quantile_window(gaps, 0.3, 0.7) == Window(3.0, 3.0)
    assert quantile_window(reversed(gaps), 0, 1) == Window(1.0, 5.0)


def test_shares_are_those_that_are_written() -> None:
    gaps = [float(n) for n in range(31)]
    assert quantile_window(gaps, 0.1, 0.7) == Window(3.0, 21.0)  # in float64 30 * 0.1 > 3
    gaps = [float(n) for n in range(101)]
    assert quantile_window(gaps, 0.07, 0.29) == Window(7.0, 29.0)  # and 100 * 0.29 < 29


def test_nothing_to_choose_from_is_an_empty_window() -> None:
    assert quantile_window([], 0, 1) == Window(math.inf, -math.inf)
    assert quantile_window([1.0, 2.0], 0.3, 0.6) == Window(math.inf, -math.inf)

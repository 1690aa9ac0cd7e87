from hypothesis import given
from hypothesis import strategies as st

from data_construction.select import (
    Answer,
    Pair,
    Rejection,
    Triple,
    best,
    same_source_pair,
    sft_answer,
    triple,
    worst,
)


def answer(source: str, index: int, score: float, text: str | None = None) -> Answer:
    return Answer(source, index, text if text is not None else f"{source}{index}", score)


ANSWERS = st.lists(
    st.builds(
        Answer,
        source=st.sampled_from("abc"),
        index=st.integers(0, 7),
        text=st.sampled_from(["x", "y", "z", ""]),
        score=st.sampled_from([0.0, 0.05, 0.1, 0.5, 1.0]),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda a: (a.source, a.index),
)


def test_best_breaks_ties_by_source_name_then_index() -> None:
    answers = [answer("b", 0, 1.0), answer("a", 3, 1.0), answer("a", 1, 1.0)]
    assert best(answers) == answers[2]
    assert worst(answers) == answers[2]


@given(ANSWERS, st.randoms())
def test_choice_does_not_depend_on_order(answers: list[Answer], random) -> None:
    shuffled = list(answers)
    random.shuffle(shuffled)
    assert best(shuffled) == best(answers)
    assert worst(shuffled) == worst(answers)
    assert same_source_pair(shuffled, min_gap=0.01, max_gap=0.5) == same_source_pair(
        answers, min_gap=0.01, max_gap=0.5
    )


def test_sft_answer_is_the_best_over_all_sources() -> None:
    assert sft_answer([answer("a", 0, 0.2), answer("b", 0, 0.9)]) == answer("b", 0, 0.9)


def test_sft_answer_without_candidates_is_a_rejection() -> None:
    assert sft_answer([]) == Rejection("no_source_answer")


def test_triple_takes_best_source_best_and_worst_target() -> None:
    sources = [answer("a", 0, 0.3), answer("b", 1, 0.8)]
    targets = [answer("target", i, s) for i, s in enumerate([0.4, 0.1, 0.6])]
    assert triple(sources, targets, min_gap=0.0) == Triple(sources[1], targets[2], targets[1])


def test_triple_refuses_ties_even_without_a_minimum_gap() -> None:
    targets = [answer("target", 0, 0.5), answer("target", 1, 0.5)]
    made = triple([answer("a", 0, 1.0)], targets, min_gap=0.0)
    assert isinstance(made, Rejection) and made.reason == "gap_too_small"


def test_triple_refuses_equal_texts_with_different_scores() -> None:
    targets = [answer("target", 0, 0.9, "same"), answer("target", 1, 0.1, "same")]
    made = triple([answer("a", 0, 1.0)], targets, min_gap=0.0)
    assert isinstance(made, Rejection) and made.reason == "equal_answers"


def test_triple_needs_two_target_answers_and_one_source_answer() -> None:
    one = [answer("target", 0, 0.9)]
    made = triple([answer("a", 0, 1.0)], one, min_gap=0.0)
    assert isinstance(made, Rejection) and made.reason == "too_few_target_answers"
    made = triple([], one * 2, min_gap=0.0)
    assert isinstance(made, Rejection) and made.reason == "no_source_answer"


@given(ANSWERS, st.floats(0, 0.2), st.floats(0.2, 1.0))
def test_pairs_come_from_one_source_inside_the_window(
    answers: list[Answer], low: float, high: float
) -> None:
    made = same_source_pair(answers, min_gap=low, max_gap=high)
    if isinstance(made, Pair):
        gap = made.chosen.score - made.rejected.score
        assert made.chosen.source == made.rejected.source
        assert low <= gap <= high and gap > 0
        assert made.chosen.text != made.rejected.text


def test_pair_of_the_source_with_the_best_chosen_answer_wins() -> None:
    answers = [
        answer("a", 0, 0.50),
        answer("a", 1, 0.45),
        answer("b", 0, 0.60),
        answer("b", 1, 0.52),
    ]
    assert same_source_pair(answers, min_gap=0.01, max_gap=0.1) == Pair(answers[2], answers[3])


def test_pair_window_is_inclusive_and_open_above_without_limit() -> None:
    answers = [answer("a", 0, 0.75), answer("a", 1, 0.5)]
    assert isinstance(same_source_pair(answers, min_gap=0.25, max_gap=0.25), Pair)
    assert isinstance(same_source_pair(answers, min_gap=0.3, max_gap=None), Rejection)
    assert isinstance(same_source_pair(answers, min_gap=0.1, max_gap=None), Pair)

"""The rules of both papers against slow references that share no code with them.

Scores are multiples of 0.01 and windows too, so that the references can be exact: they compare
whole numbers of hundredths, and the code under test compares float64 differences.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_construction.selection.select import (
    Pair,
    Response,
    Triple,
    Window,
    accepted,
    best,
    best_and_worst,
    most_voted,
    pair_of,
    same_source_pair,
    sft_response,
    triple,
    verified_pair,
    verified_sft_response,
    worst,
)
from wrpo.pipeline.tables import Drop


def response(
    source: str, index: int, score: float, text: str | None = None, correct: bool | None = None
) -> Response:
    return Response(source, index, text if text is not None else f"{source}{index}", score, correct)


def responses_of(names: str, *, most: int = 9) -> st.SearchStrategy[list[Response]]:
    """Few scores and few texts, so that ties, equal texts and unusable responses are common."""
    bad = st.sampled_from([math.nan, math.inf])
    scores = st.integers(-30, 30).map(lambda n: n / 100)
    return st.lists(
        st.builds(
            Response,
            source=st.sampled_from(names),
            index=st.integers(0, 5),
            text=st.sampled_from(["x", "y", "z", "w", "", " \n"]),
            score=st.one_of(scores, scores, scores, bad),
            correct=st.sampled_from([True, False, None]),
            preferable=st.sampled_from([True, True, False]),
        ),
        max_size=most,
        unique_by=lambda a: (a.source, a.index),
    )


WINDOWS = st.tuples(
    st.one_of(st.none(), st.integers(0, 20)), st.one_of(st.none(), st.integers(0, 40))
)


def window_of(ends: tuple[int | None, int | None]) -> Window:
    return Window(*(None if end is None else end / 100 for end in ends))


def hundredths(found: Response) -> int:
    return round(found.score * 100)


def usable(responses: list[Response]) -> list[Response]:
    return [a for a in responses if a.text.strip() and math.isfinite(a.score)]


def likable(responses: list[Response]) -> list[Response]:
    return [a for a in usable(responses) if a.preferable]


def beats(first: Response, second: Response) -> bool:
    """Whether the first comes before the second among candidates for `chosen`."""
    if hundredths(first) != hundredths(second):
        return hundredths(first) > hundredths(second)
    return (first.source, first.index) < (second.source, second.index)


def unbeaten(responses: list[Response]) -> list[Response]:
    return [a for a in responses if not any(beats(b, a) for b in responses)]


def lowest(responses: list[Response]) -> list[Response]:
    """The first of those with the lowest score, as a list of none or one."""
    low = [a for a in responses if all(hundredths(a) <= hundredths(b) for b in responses)]
    return [a for a in low if all((a.source, a.index) <= (b.source, b.index) for b in low)]


def slow_pairs(responses: list[Response], *, verified: bool) -> Iterator[Pair]:
    """Every pair of responses, kept only if it is the one that the rule names."""
    for chosen, rejected in itertools.product(usable(responses), repeat=2):
        own = [a for a in usable(responses) if a.source == chosen.source]
        good = [a for a in own if a.preferable and (a.correct is True or not verified)]
        poor = [a for a in own if a.correct is False] if verified else own
        named = chosen in unbeaten(good) and rejected in lowest(poor)
        tied = not verified and hundredths(chosen) == hundredths(rejected)
        if named and not tied and chosen.text != rejected.text:
            yield Pair(chosen, rejected)


def slow_pair(
    responses: list[Response], ends: tuple[int | None, int | None], *, verified: bool
) -> Pair | None:
    low, high = ends
    inside = []
    for pair in slow_pairs(responses, verified=verified):
        gap = hundredths(pair.chosen) - hundredths(pair.rejected)
        if (low is None or gap >= low) and (high is None or gap <= high):
            inside.append(pair)
    first = unbeaten([pair.chosen for pair in inside])
    return next((pair for pair in inside if pair.chosen in first), None)


@given(responses_of("abc"), WINDOWS)
def test_same_source_pairs_equal_the_slow_reference(
    responses: list[Response], ends: tuple[int | None, int | None]
) -> None:
    expected = slow_pair(responses, ends, verified=False)
    made = same_source_pair(responses, window_of(ends))
    assert made == expected if expected else isinstance(made, Drop)


@given(responses_of("ab"), WINDOWS)
def test_verified_pairs_equal_the_slow_reference(
    responses: list[Response], ends: tuple[int | None, int | None]
) -> None:
    expected = slow_pair(responses, ends, verified=True)
    made = verified_pair(responses, window_of(ends))
    assert made == expected if expected else isinstance(made, Drop)


@given(responses_of("abc"))
def test_sft_answers_equal_the_slow_reference(responses: list[Response]) -> None:
    for choose, own in (
        (sft_response, likable(responses)),
        (verified_sft_response, [a for a in likable(responses) if a.correct is True]),
    ):
        expected = unbeaten(own)
        assert choose(responses) == expected[0] if expected else isinstance(choose(responses), Drop)


@given(responses_of("abc", most=5), responses_of("t", most=6), st.integers(0, 20))
def test_triples_equal_the_slow_reference(
    sources: list[Response], targets: list[Response], limit: int
) -> None:
    made = triple(sources, targets, min_gap=limit / 100)
    top, bottom = unbeaten(likable(targets)), lowest(usable(targets))
    enough = bool(likable(sources)) and len(usable(targets)) > 1
    if enough and top and hundredths(top[0]) - hundredths(bottom[0]) > limit:
        expected = Triple(unbeaten(likable(sources))[0], top[0], bottom[0])
        same = bottom[0].text in (top[0].text, expected.source_chosen.text)
        assert isinstance(made, Drop) if same else made == expected
    else:
        assert isinstance(made, Drop)


@given(responses_of("abc"), st.randoms())
def test_no_choice_depends_on_the_order_of_answers(responses: list[Response], random) -> None:
    shuffled = list(responses)
    random.shuffle(shuffled)
    window = Window(0.01, 0.1)
    for rule in (same_source_pair, verified_pair):
        assert rule(shuffled, window) == rule(responses, window)
    for rule in (sft_response, verified_sft_response):
        assert rule(shuffled) == rule(responses)


@pytest.mark.parametrize("hundredth", range(-20, 21))
def test_a_gap_that_is_the_edge_in_decimals_is_inside_whatever_float64_makes_of_it(
    hundredth: int,
) -> None:
    low, high = Window(0.1, None), Window(None, 0.1)
    rejected = response("a", 1, hundredth / 100)
    chosen = response("a", 0, (hundredth + 10) / 100)
    assert isinstance(same_source_pair([chosen, rejected], low), Pair)
    assert isinstance(same_source_pair([chosen, rejected], high), Pair)
    further = response("a", 0, (hundredth + 10) / 100 + 1e-6)
    assert isinstance(same_source_pair([further, rejected], high), Drop)
    made = triple([chosen], [chosen, rejected], min_gap=0.1)
    assert isinstance(made, Drop) and made.reason == "gap_too_small"


def test_best_breaks_ties_by_source_name_then_index() -> None:
    responses = [response("b", 0, 1.0), response("a", 3, 1.0), response("a", 1, 1.0)]
    assert best(responses) == responses[2]
    assert worst(responses) == responses[2]


def test_triple_takes_best_source_best_and_worst_target() -> None:
    sources = [response("a", 0, 0.3), response("b", 1, 0.8)]
    targets = [response("target", i, s) for i, s in enumerate([0.4, 0.1, 0.6])]
    assert triple(sources, targets, min_gap=0.0) == Triple(sources[1], targets[2], targets[1])


def test_each_way_to_give_no_row_has_its_reason() -> None:
    one, two = response("a", 0, 0.9, correct=True), response("a", 1, 0.1, correct=False)
    empty, broken = response("a", 2, 2.0, text=" "), response("a", 3, math.nan)
    cut = [replace(each, preferable=False) for each in (one, two)]
    made = {
        "no_source_response": [
            sft_response([]),
            sft_response([empty, broken]),
            verified_sft_response([empty]),
            triple([], [one, two], min_gap=0.0),
        ],
        "no_correct_response": [
            verified_sft_response([two]),
            verified_sft_response([response("a", 0, 1)]),
        ],
        "no_finished_response": [
            sft_response(cut),
            verified_sft_response(cut),
            triple(cut, [one, two], min_gap=0.0),
            triple([one], cut, min_gap=0.0),
        ],
        "too_few_target_responses": [triple([one], [one, empty], min_gap=0.0)],
        "gap_too_small": [triple([one], [one, response("a", 5, 0.9)], min_gap=0.0)],
        "equal_responses": [
            triple([one], [one, response("a", 5, 0.1, text="a0")], min_gap=0.0),
            triple([one], [response("t", 0, 0.5), response("t", 1, 0.1, text="a0")], min_gap=0.0),
        ],
        "no_pair_in_window": [
            same_source_pair([one, two], Window(0.01, 0.1)),
            same_source_pair([one, response("b", 1, 0.85)], Window()),
            verified_pair([one, two], Window(0.9)),
        ],
        "not_both_right_and_wrong": [
            verified_pair([one, response("b", 0, 0.1, correct=False)], Window()),
            verified_pair([one, response("a", 1, 0.1)], Window()),
        ],
    }
    for reason, rejections in made.items():
        for rejection in rejections:
            assert isinstance(rejection, Drop) and rejection.reason == reason, reason


def test_pair_of_the_source_with_the_best_chosen_answer_wins() -> None:
    responses = [
        response("a", 0, 0.50),
        response("a", 1, 0.45),
        response("b", 0, 0.60),
        response("b", 1, 0.52),
    ]
    assert same_source_pair(responses, Window(0.01, 0.1)) == Pair(responses[2], responses[3])


def test_without_a_window_a_wrong_answer_may_score_higher_than_the_right_one() -> None:
    right, wrong = response("a", 0, 0.5, correct=True), response("a", 1, 0.9, correct=False)
    assert verified_pair([right, wrong], Window()) == Pair(right, wrong)
    assert isinstance(verified_pair([right, wrong], Window(0.01)), Drop)


def test_ties_give_no_candidate_for_a_window_of_quantiles() -> None:
    responses = [response("a", 0, 0.5), response("a", 1, 0.5), response("b", 0, 0.2)]
    assert best_and_worst(responses) == []


def test_delta_learning_reads_names_and_no_scores() -> None:
    strong = [Response("big", 1, "second", math.nan), Response("big", 0, "first", math.nan)]
    weak = [Response("small", 0, "weak", math.nan, finished=False, preferable=False)]
    made = pair_of(strong, weak)
    assert isinstance(made, Pair)
    assert (made.chosen.text, made.rejected.text) == ("first", "weak")


def test_delta_learning_prefers_nothing_that_was_cut_or_is_equal() -> None:
    cut = Response("big", 0, "cut", math.nan, finished=False, preferable=False)
    whole = Response("big", 1, "whole", math.nan)
    weak = [Response("small", 0, "whole", math.nan)]
    assert pair_of([cut, whole], weak) == Drop("equal_responses", "both models said the same")
    assert pair_of([cut], weak) == Drop(
        "no_source_response", "none of the strong model that can be used"
    )
    assert pair_of([whole], []) == Drop(
        "no_source_response", "none of the weak model that can be used"
    )


def sampled(*scores: float, correct: tuple[bool, ...] = ()) -> list[Response]:
    known = correct or (True,) * len(scores)
    return [
        Response("target", index, f"text {index % 3}", score, known[index])
        for index, score in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("keep", "min_score", "indices"),
    [(1, None, [3]), (None, None, [3, 2, 1]), (None, 0.5, [3, 2]), (2, 0.0, [3, 2])],
)
def test_rejection_sampling_keeps_the_best_distinct_responses(keep, min_score, indices) -> None:
    # The texts of 0 and 3 are the same.
    found = accepted(sampled(0.1, 0.2, 0.5, 0.9), verified=False, min_score=min_score, keep=keep)
    assert not isinstance(found, Drop)
    assert [one.index for one in found] == indices


def test_rejection_sampling_with_a_verifier_takes_correct_responses_only() -> None:
    found = accepted(
        sampled(0.9, 0.1, correct=(False, True)), verified=True, min_score=None, keep=1
    )
    assert not isinstance(found, Drop) and found[0].index == 1
    wrong = sampled(0.9, 0.1, correct=(False, False))
    assert accepted(wrong, verified=True, min_score=None, keep=1) == Drop("no_correct_response")
    low = accepted(sampled(0.2), verified=False, min_score=0.5, keep=1)
    assert isinstance(low, Drop) and low.reason == "score_too_low"


def judged(source: str, score: float, **rewards: float) -> Response:
    return replace(response(source, 0, score), rewards=rewards)


def test_each_reward_votes_once_whatever_its_scale() -> None:
    """Two of three rewards prefer b; the sum of all prefers a."""
    a, b = judged("a", 9.0, r=100.0, s=1.0, t=1.0), judged("b", 1.0, r=0.0, s=2.0, t=2.0)
    assert best([a, b]) == a and most_voted([a, b]) == most_voted([b, a]) == b
    cubed = [replace(one, rewards={n: v**3 for n, v in one.rewards.items()}) for one in (a, b)]
    assert most_voted(cubed) == b


def test_one_reward_is_its_highest_and_none_is_the_score() -> None:
    one = [judged("a", 5.0, r=1.0), judged("b", 1.0, r=3.0), judged("c", 2.0, r=2.0)]
    assert most_voted(one) == one[1]
    assert most_voted([response("a", 0, 1.0), response("b", 0, 2.0)]).source == "b"
    partly = [judged("a", 5.0, r=1.0, s=0.0), judged("b", 1.0, r=3.0)]
    assert most_voted(partly) == partly[1]  # s did not judge b, and so does not vote


def test_ties_of_votes_go_to_the_mean_z_score_and_then_to_the_first_source() -> None:
    a, b, c = (
        judged("a", 0.0, r=3.0, s=0.0),
        judged("b", 0.0, r=2.9, s=3.0),
        judged("c", 0.0, r=0.0, s=0.0),
    )
    assert most_voted([a, b, c]) == b  # one vote each for a and b
    even = [judged("b", 0.0, r=1.0, s=0.0), judged("a", 0.0, r=0.0, s=1.0)]
    assert most_voted(even).source == "a"


def test_triples_take_y_ws_by_votes_where_the_rule_says_so() -> None:
    sources = [judged("a", 9.0, r=9.0, s=1.0, t=1.0), judged("b", 1.0, r=0.0, s=2.0, t=2.0)]
    targets = [response("target", 0, 2.0), response("target", 1, 1.0)]
    made = triple(sources, targets, min_gap=0.0, choose=most_voted)
    assert isinstance(made, Triple) and made.source_chosen == sources[1]

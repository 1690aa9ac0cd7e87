from data_construction.select import Answer, Pair, Rejection
from data_construction.verified import verified_pair, verified_sft_answer


def answer(source: str, index: int, score: float, correct: bool | None) -> Answer:
    return Answer(source, index, f"{source}{index}", score, correct)


RIGHT, LOW_RIGHT = answer("a", 0, 0.50, True), answer("a", 1, 0.40, True)
WRONG, LOW_WRONG = answer("a", 2, 0.90, False), answer("a", 3, 0.25, False)


def test_sft_answer_is_the_best_correct_one_though_a_wrong_one_scores_higher() -> None:
    assert verified_sft_answer([WRONG, LOW_RIGHT, RIGHT]) == RIGHT


def test_prompts_without_a_correct_answer_are_rejected() -> None:
    assert verified_sft_answer([WRONG]) == Rejection("no_correct_answer")
    assert verified_sft_answer([answer("a", 0, 1.0, None)]) == Rejection("no_correct_answer")
    assert verified_sft_answer([]) == Rejection("no_source_answer")


def test_pair_is_best_correct_and_worst_incorrect() -> None:
    assert verified_pair([WRONG, LOW_RIGHT, LOW_WRONG, RIGHT]) == Pair(RIGHT, LOW_WRONG)


def test_pair_never_joins_two_sources_or_unchecked_answers() -> None:
    for other in (answer("b", 0, 0.1, False), answer("a", 9, 0.1, None)):
        made = verified_pair([RIGHT, other])
        assert isinstance(made, Rejection) and made.reason == "not_both_right_and_wrong"


def test_window_is_inclusive_and_without_it_the_wrong_answer_may_score_higher() -> None:
    assert verified_pair([RIGHT, WRONG]) == Pair(RIGHT, WRONG)
    assert verified_pair([RIGHT, LOW_WRONG], min_gap=0.25, max_gap=0.25) == Pair(RIGHT, LOW_WRONG)
    for made in (
        verified_pair([RIGHT, WRONG], min_gap=0.01),
        verified_pair([RIGHT, LOW_WRONG], max_gap=0.2),
    ):
        assert isinstance(made, Rejection) and made.reason == "no_pair_in_window"


def test_of_several_sources_the_one_with_the_best_chosen_answer_gives_the_pair() -> None:
    better = [answer("b", 0, 0.8, True), answer("b", 1, 0.7, False)]
    assert verified_pair([RIGHT, LOW_WRONG, *better]) == Pair(*better)


def test_equal_texts_give_no_pair() -> None:
    same = Answer("a", 1, RIGHT.text, 0.1, False)
    assert isinstance(verified_pair([RIGHT, same]), Rejection)

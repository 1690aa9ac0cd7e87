"""The two cuts, on token ids written out by hand."""

import pytest

from wrpo.rows.truncation import TokenLimits, count_cuts, cut

BOS = 1
PUBLIC = TokenLimits(max_length=2048, max_prompt_length=1800, mode="original")
SEPARATE = TokenLimits(max_length=2048, max_prompt_length=1800)
LONG_SOURCE = {"source_chosen": [2] * 2000, "chosen": [3] * 300, "rejected": [4] * 400}


def lengths(prompt, responses, limits):
    prompt, responses = cut(prompt, responses, limits, bos=BOS)
    return len(prompt), *(len(ids) for ids in responses.values())


def test_original_one_long_answer_cuts_all_three():
    assert lengths([9] * 100, LONG_SOURCE, PUBLIC) == (100, 248, 248, 248)


def test_separate_one_long_answer_cuts_only_itself():
    assert lengths([9] * 100, LONG_SOURCE, SEPARATE) == (100, 1948, 300, 400)


def test_original_leaves_a_row_alone_that_just_fits():
    responses = {"chosen": [3] * 10, "rejected": [4] * 148}
    assert cut([9] * 1900, responses, PUBLIC, bos=BOS) == ([9] * 1900, responses)
    assert lengths([9] * 1901, responses, PUBLIC) == (1800, 10, 148)


def test_original_loses_bos_where_separate_keeps_it():
    prompt, responses = [BOS, *range(10, 20)], {"chosen": [3] * 5, "rejected": [4] * 2}
    original = TokenLimits(max_length=12, max_prompt_length=6, mode="original")
    assert cut(prompt, responses, original, bos=BOS) == (list(range(14, 20)), responses)
    separate = TokenLimits(max_length=12, max_prompt_length=6)
    assert cut(prompt, responses, separate, bos=BOS) == ([BOS, *range(15, 20)], responses)


def test_original_cuts_prompt_and_answers_where_both_are_long():
    assert lengths([9] * 1900, LONG_SOURCE, PUBLIC) == (1800, 248, 248, 248)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (TokenLimits(), (6, 9, 3)),
        (TokenLimits(max_response_length=4), (6, 4, 3)),
        (TokenLimits(max_length=8, max_response_length=4), (6, 2, 2)),
        (TokenLimits(max_length=8, max_prompt_length=5, max_response_length=4), (5, 3, 3)),
        (TokenLimits(max_length=6), (6, 0, 0)),
    ],
)
def test_separate_cuts_an_answer_to_the_smaller_limit(limits, expected):
    assert lengths([9] * 6, {"chosen": [3] * 9, "rejected": [4] * 3}, limits) == expected


def test_an_answer_that_is_cut_keeps_its_start_and_loses_its_end_of_turn():
    responses = {"chosen": [3, 4, 5, 99], "rejected": [6, 99]}
    _, kept = cut([9], responses, TokenLimits(max_response_length=3), bos=BOS)
    assert kept == {"chosen": [3, 4, 5], "rejected": [6, 99]}


def test_counts_are_by_name_and_leave_dropped_rows_out():
    rows = [
        {"cut_tokens": [0, 4, 0], "cut_equal": False, "rejected_ids": [1]},
        {"cut_tokens": [2, 4, 1], "cut_equal": False, "rejected_ids": [1]},
        {"cut_tokens": [0, 0, 0], "cut_equal": False, "rejected_ids": [1]},
        {"cut_tokens": [0, 9, 9], "cut_equal": False, "rejected_ids": []},
        {"cut_tokens": [0, 3, 3], "cut_equal": True, "rejected_ids": []},
    ]
    counts = count_cuts(rows, ("prompt", "chosen", "rejected"))
    assert (counts.rows, counts.rows_cut, counts.dropped) == (5, 2, 1)
    assert counts.equal == 1
    assert counts.cut == {"prompt": 1, "chosen": 2, "rejected": 1}
    dropped, equal, cut_ = counts.describe("build/pairs", TokenLimits(max_length=9))
    assert dropped.startswith("build/pairs: 1 of 5 rows are not trained on")
    assert "equal once they are cut to max_length=9" in equal
    assert "build/pairs: 2 of 5 rows are cut to max_length=9" in cut_
    assert "prompt 1, chosen 2, rejected 1" in cut_


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        (TokenLimits(max_length=1), "max_length is 1"),
        (TokenLimits(max_response_length=0), "max_response_length is 0"),
        (TokenLimits(max_length=9, max_prompt_length=9), "leaves no token for a response"),
        (TokenLimits(max_length=9, mode="original"), "max_prompt_length is not set"),
        (TokenLimits(max_prompt_length=9, mode="original"), "max_length is not set"),
        (TokenLimits(9, 5, 2, "original"), "leave it out"),
    ],
)
def test_limits_that_cannot_work_say_why(limits, problem):
    assert problem in limits.problem()


@pytest.mark.parametrize("limits", [TokenLimits(), PUBLIC, SEPARATE, TokenLimits(9, 5, 8)])
def test_limits_that_leave_tokens_have_no_problem(limits):
    assert limits.problem() is None

"""What a judge's reply says, in every form that judges use: the right verdict, or none."""

from __future__ import annotations

import math

import pytest

from wrpo.benchmarks.alpaca_eval import preference_for_second
from wrpo.benchmarks.arena_hard import score_of_second
from wrpo.benchmarks.mt_bench import rating
from wrpo.judging import Verdict
from wrpo.judging.reading import grade_form, label_form
from wrpo.rewards.questions.grade import DIGIT, Grade

GRADES = [
    ("Grade: [[7]]", 7.0),
    ("[[7]]", 7.0),
    ("**[[7]]**", 7.0),
    ("[[**7**]]", 7.0),
    ("**Grade:** [[ 7 ]].", 7.0),
    ("# Verdict\n\n[[7]]\n\nThat is all.", 7.0),
    ("[[8.5]]", 8.5),
    ("[[8,5]]", 8.5),
    ("[[7.]]", 7.0),
    ("[[7/10]]", 7.0),
    ("[[8.5 / 10]]", 8.5),
    ("[[7 out of 10]]", 7.0),
    ("[[Rating: 7]]", 7.0),
    ("\\[\\[7\\]\\]", 7.0),
    ("\\boxed{[[7]]}", 7.0),
    ("`[[7]]`", 7.0),
    ("```\n[[7]]\n```", 7.0),
    ("> **[[7]]**", 7.0),
    # Restated scales, drafts, and what a careless reader might say.
    ("On a scale of 1 to 10, this is [[7]]", 7.0),
    ("The scale goes from [[1]] to [[10]]. My grade: [[7]]", 7.0),
    ("A careless reader might give [[3]] here. It is right, though. Grade: [[9]]", 9.0),
    ("First draft: [[4]]\nSecond draft: [[6]]\nFinal grade: [[8]]", 8.0),
    ("[[3]] comes to mind, but it deserves [[9]]", 9.0),
    ("[[2]] at first, then [[3]]", 3.0),
    ("初评[[3]]，但最终[[9]]", 9.0),
    ("[[9]] it is; yes, [[9]].", 9.0),
    ("It cites [1] and [2] and has 3 parts. Grade: [[9]]", 9.0),
    ("Draft [[3]]. Grade: [[5/5]]", None),
    ("[[3]] -> [[9]]", None),
    ("[[3]] peut-être [[9]]", None),
    ("Grade: [[9]] where [[1]] is the worst", None),
    ("[[7]] or [[8]]", None),
    ("[[7]]/[[8]]", None),
    ("[[7]]\n[[8]]", None),
    ("Draft [[3]]. Final: [[7-8]]", None),
    ("Draft [[3]]. Final: [[N/A]]", None),
    # Text of the response that is judged.
    ('The response says "Rating: [[10]]". That is a trick. Grade: [[2]]', 2.0),
    ("It ends with\n> Rating: [[10]]\n\nwhich I ignore. Grade: [[2]]", 2.0),
    ("```\nprint('[[10]]')\n```\nis all. Grade: [[2]]", 2.0),
    ('Grade: [[2]], although it says "give me [[10]]"', None),
    ('The response says "[[10]]".', None),
    ("<reply-3fa9>[[10]]</reply-3fa9> is what it says. Grade: [[2]]", 2.0),
    # Digits and brackets of other scripts.
    ("评分：[[７]]", 7.0),
    ("［［7］］", 7.0),
    ("[[٧]]", 7.0),
    ("[[७]]", 7.0),
    ("[[٧٫٥]]", 7.5),
    # No grade of the scale.
    ("[[11]]", None),
    ("[[0]]", None),
    ("[[-7]]", None),
    ("[[70%]]", None),
    ("[[7/5]]", None),
    ("[[1,000]]", None),
    ("[[7½]]", None),
    ("[[eleven]]", None),
    ("[[7]", None),
    ("Grade: 7", None),
    ("seven", None),
    ("", None),
]

THINKING = [
    ("<think>[[1]] at first</think>Grade: [[9]]", 9.0),
    ("<think>\n[[1]]?\n</think>\n\n**[[9]]**", 9.0),
    ("perhaps [[1]]</think>[[9]]", 9.0),
    ("[THINK][[1]][/THINK][[9]]", 9.0),
    ("<think>[[1]] so", None),
    ("<think>[[1]]</think>", None),
    ("<think>[[1]]</think>I cannot say.", None),
]


def number(found: float | str) -> float | None:
    return found if isinstance(found, float) else None


@pytest.mark.parametrize(("text", "expected"), [*GRADES, *THINKING])
def test_rewards_and_mt_bench_read_grades_alike(text: str, expected: float | None) -> None:
    assert number(grade_form(1, 10).read(Verdict(text))) == expected
    assert rating(Verdict(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[6]", 6.0),
        ("It is fine.\n\n**Rating: [6]**", 6.0),
        ("It cites [1] and [2]. Rating: [6].", 6.0),
        ("It cites [1] and [2].", None),
        ("It is wrong, see [2]", None),
        ("[6] is too much.", None),
        ("[6](https://example.com)", None),
        ("<think>Rating: [6]</think>", None),
    ],
)
def test_mt_bench_takes_single_brackets_at_the_end(text: str, expected: float | None) -> None:
    assert rating(Verdict(text)) == expected


LABELS = [
    ("so [[A>>B]]", -1.0),
    ("**[[A>B]]**", 0.0),
    ("[[ A = B ]]", 0.5),
    ("[[A&gt;B]]", 0.0),
    ("[[Ａ＞Ｂ]]", 0.0),
    ("[[b>>a]]", 2.0),
    ("First I leaned to [[A>B]]. My final verdict is: [[B>A]]", 1.0),
    ("At first sight [[A>B]], my final verdict is [[B>A]]", 1.0),
    ("It seems [[A>B]] here - final verdict: [[B>A]]", 1.0),
    ("<think>[[A>>B]] or [[A>B]]</think>[[B>A]]", 1.0),
    ("<think>[[A>>B]]", None),
    ("[[A>B]] or [[B>A]]", None),
    ("[[A>>B]], [[A>B]], [[A=B]], [[B>A]], [[B>>A]]", None),
    ("Assistant A wrote 'verdict: [[A>>B]]'. Mine is [[B>A]]", 1.0),
    ("[[A]]", None),
    ("[[A>B>A]]", None),
]


@pytest.mark.parametrize(("text", "expected"), LABELS)
def test_arena_hard_reads_the_final_label(text: str, expected: float | None) -> None:
    assert score_of_second(Verdict(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[A]]", 1.0),
        ("[[ b ]]", 0.0),
        ("**[[Tie]]**", 0.5),
        ("[[B]] comes to mind, but [[A]]", 1.0),
        ("[[A]] is better than [[B]]", None),
        ("[[A]] and [[B]] are alike. So: [[tie]]", 0.5),
        ("<think>[[A]]</think>[[B]]", 0.0),
        ("[[A or B]]", None),
        ("[[C]]", None),
    ],
)
def test_comparisons_read_the_final_letter(text: str, expected: float | None) -> None:
    assert number(label_form({"A": 1.0, "B": 0.0, "tie": 0.5}).read(Verdict(text))) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m", 0.0),
        ("**M**", 1.0),
        ("Ｍ", 1.0),
        ("Response m is shorter, response M is right.\n\nM", 1.0),
        ("Both are fine. Verdict: m", 0.0),
        ("The better response is **M**.", 1.0),
        ("<think>m</think>M", 1.0),
        ("<think>m", None),
        ("m or M", None),
        ("I prefer m over M", None),
        ("The tower is 300 m tall.", None),
        ("The worse one is M", None),
    ],
)
def test_alpaca_eval_reads_the_final_label(text: str, expected: float | None) -> None:
    assert preference_for_second(Verdict(text), limited=False) == expected


@pytest.mark.parametrize("text", ["[[7]]", "[[A>B]]", "m", "7"])
def test_cut_and_refused_replies_say_nothing(text: str) -> None:
    for verdict in (Verdict(text, finish_reason="length"), Verdict(None, detail="policy")):
        assert isinstance(grade_form(1, 10).read(verdict), str)
        assert rating(verdict) is None and score_of_second(verdict) is None
        assert preference_for_second(verdict, limited=False) is None
        assert isinstance(expected_grade().read(0, verdict), str)


def test_a_reply_of_the_length_that_the_protocol_sets_is_whole() -> None:
    one_token = Verdict("M", finish_reason="length")
    assert preference_for_second(one_token, limited=True) == 1.0
    top = ({"m": math.log(0.25), "M": math.log(0.75)},)
    weighed = Verdict("", top_logprobs=top, finish_reason="length")
    assert preference_for_second(weighed, limited=True) == pytest.approx(0.75)
    for thinking in (
        Verdict("<think>", top_logprobs=top, finish_reason="length"),
        Verdict("", top_logprobs=top, thoughts="m", finish_reason="length"),
    ):
        assert preference_for_second(thinking, limited=True) is None


def expected_grade() -> Grade:
    return Grade(DIGIT, None, scale=(1, 9), expected=True, judge="j")


@pytest.mark.parametrize(
    ("tokens", "text", "expected"),
    [
        (["7"], "7", 7.0),
        (["\n", " 7"], "\n 7", 7.0),
        (["<think>", "2", "</think>", "\n\n", "7"], "<think>2</think>\n\n7", 7.0),
        (["<think>", "7", "?", "</think>", "7"], "7", 7.0),
        (["<think>", "2"], "<think>2", None),
        (["7", "/", "9"], "7/9", None),
        (["no"], "no", None),
    ],
)
def test_the_expected_grade_is_read_behind_the_thoughts(
    tokens: list[str], text: str, expected: float | None
) -> None:
    top = tuple({token: 0.0} for token in tokens)
    apart = "2" if len(tokens) == 5 and text == "7" else ""
    verdict = Verdict(text, top_logprobs=top, tokens=tuple(tokens), thoughts=apart)
    assert number(expected_grade().read(0, verdict)) == expected


def test_thoughts_whose_tokens_are_not_known_hide_the_grade() -> None:
    verdict = Verdict("<think>2</think>7", top_logprobs=({"2": 0.0}, {"7": 0.0}))
    assert isinstance(expected_grade().read(0, verdict), str)

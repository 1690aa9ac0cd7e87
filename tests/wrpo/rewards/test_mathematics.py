"""Reference answers of mathematics in every form that data sets have, and how they are compared."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import pytest

from tests.wrpo.rewards.reference_forms import FORMS
from wrpo.pipeline.tables import Drop
from wrpo.rewards import Candidate
from wrpo.rewards.math import MathReward, MathVerifier
from wrpo.rewards.mathematics import Equality, UnreadableAnswerError, read_answer
from wrpo.rewards.mathematics.equality import equal

pytest.importorskip("math_verify")


def score(reference_answer: str, response: str) -> float | Drop:
    [result] = MathVerifier(MathReward(type="math")).score(
        [Candidate([], response, reference_answer)]
    )
    return result


@pytest.mark.parametrize("reference_answer", FORMS)
def test_a_form_of_reference_answers(reference_answer: str) -> None:
    right, wrong = FORMS[reference_answer]
    equality = Equality()
    for written in (reference_answer, f"${reference_answer}$", rf"\boxed{{{reference_answer}}}"):
        reference = equality.read_reference(written)
        for spelling in (reference_answer, *right):
            assert equality.is_correct(rf"So it is $\boxed{{{spelling}}}$.", reference), spelling
        assert not equality.is_correct("", reference)
        assert not equality.is_correct(r"\boxed{}", reference)
        assert not equality.is_correct("I do not know.", reference)
    for spelling in wrong:
        assert not equality.is_correct(rf"So it is $\boxed{{{spelling}}}$.", reference), spelling


def pairs_of_forms() -> list[tuple[str, str]]:
    """All pairs but one: a set of one number is that number."""
    same = ("0", r"\{0\}")
    return [pair for pair in itertools.combinations(FORMS, 2) if pair != same]


def assert_distinct(pairs: Iterable[tuple[str, str]]) -> None:
    Equality()  # no warning for each comparison
    read = {form: read_answer(form) for form in FORMS}
    for one, other in pairs:
        assert not equal(read[one], read[other]), (one, other)


def test_distinct_reference_answers_are_wrong_for_each_other() -> None:
    pairs = random.Random(1).sample(pairs_of_forms(), 300)
    assert_distinct(itertools.chain(pairs, (pair[::-1] for pair in pairs)))


@pytest.mark.slow
def test_all_distinct_reference_answers_are_wrong_for_each_other() -> None:
    assert_distinct(pairs_of_forms())


IN_PERCENT = (
    r"10\%, 20\%",
    r"\{10\%, 20\%\}",
    r"(1, 2)\%",
    r"[1, 2]\%",
    r"x = 5\%",
    r"x > 5\%",
    r"\pm 5\%",
    r"5\% \text{ and } 7\%",
    r"\begin{pmatrix}1\\2\end{pmatrix}\%",
)
"""What is no single amount, as data sets write it; a list of shares is common."""


@pytest.mark.parametrize("answer", IN_PERCENT)
@pytest.mark.parametrize("other", ["3", "0.05", r"\frac{1}{2}", r"\{1, 2\}", "x = 3", "(3, 4)"])
def test_several_amounts_in_percent_are_compared_with_whatever_is_said(
    answer: str, other: str
) -> None:
    equality = Equality()
    assert not equality.is_correct(rf"\boxed{{{answer}}}", equality.read_reference(other))
    assert not equality.is_correct(rf"\boxed{{{other}}}", equality.read_reference(answer))


@pytest.mark.parametrize(
    ("response", "reference_answer", "expected"),
    [
        (r"So \boxed{4}. But wait, let me double check: \boxed{5}", "5", 1.0),
        (r"First \boxed{4}. Then \boxed{5}", "5", 1.0),
        (r"First \boxed{4}. Then \boxed{5}", "4", 0.0),
        (r"First \boxed{4}. Then \boxed{5", "4", 0.0),
        ("The answer is 2 2/3.", "2", 0.0),
        ("The answer is 2 2/3.", "8/3", 1.0),
        ("The answer is 4 10/3", "10", 0.0),
        (r"The answer is 2\sqrt{3}.", "2", 0.0),
        (r"The answer is 2\sqrt{3}.", r"2\sqrt{3}", 1.0),
        (r"The answer is $2\sqrt{3}$, since \(3 + 4 = 7\).", r"2\sqrt{3}", 1.0),
        ("The answers are 3, 5, 7.", "7", 0.0),
        ("The answers are 3, 5 and 7.", "3,5,7", 1.0),
        ("The answer is $3$ and $5$.", "3,5", 1.0),
        ("The answer is $52_8$.", "52_8", 1.0),
        ("The answer is $52_7$.", "52_8", 0.0),
        ("The line is y = 2x + 3.", "y=2x+3", 1.0),
        ("The line is y = 2x + 3.", "3", 0.0),
        ("So x = 5.", "5", 1.0),
        ("3 + 2 = 5", "5", 1.0),
        ("It costs $5 and then $12.", "12", 1.0),
        ("I ate 3 apples and 4 pears.", "4", 1.0),
        ("#### 1,200", "1200", 1.0),
        ("The winner is Evelyn.", r"\text{Evelyn}", 1.0),
        ("The winner is Navin.", r"\text{Evelyn}", 0.0),
        ("**Answer: (C)**", r"\text{(C)}", 1.0),
        ("**Answer: (B)**", r"\text{(C)}", 0.0),
    ],
)
def test_where_the_answer_of_a_response_is(
    response: str, reference_answer: str, expected: float
) -> None:
    assert score(reference_answer, response) == expected


@pytest.mark.parametrize(
    ("reference_answer", "reason"),
    [
        ("", "empty"),
        ("$$", "empty"),
        (r"1, 2, \ldots, 10", "ellipsis"),
        ("y' + y", "prime"),
        ("12 34", "two numbers side by side"),
        ("1.234,50", "one number of some countries"),
        ("€1.234,50", "one number of some countries"),
        ("59_8", "no number of base 8"),
        (r"\frac{1}{", "not a formula"),
        (r"x \to 3", "not a formula"),
        (r"k\pi, k \in \mathbb{Z}", "not a formula"),
        ("(" * 3000 + "1" + ")" * 3000, ""),
    ],
)
def test_what_cannot_be_read_whole_is_refused_with_the_reason(
    reference_answer: str, reason: str
) -> None:
    result = score(reference_answer, r"\boxed{1}")
    assert isinstance(result, Drop) and result.reason == "bad_reference_answer"
    assert reason in result.detail
    with pytest.raises(UnreadableAnswerError):
        Equality(timeout_s=2).read_reference(reference_answer)

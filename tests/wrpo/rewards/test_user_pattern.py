"""Patterns of recipes are stopped, and find what those of `re` find."""

import re

import pytest

from wrpo.judging.reading import grade_form
from wrpo.judging.request import Verdict
from wrpo.pipeline.tables import Drop
from wrpo.rewards.answer import AnswerReward
from wrpo.rewards.base import Candidate
from wrpo.rewards.patterns import UserPattern, user_pattern

SLOW = r"(?P<answer>(?:a+)+)b"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_pattern, "LIMIT_S", 0.2)


@pytest.mark.usefixtures("impatient")
def test_a_slow_pattern_drops_the_response_and_no_other() -> None:
    verifier = AnswerReward(type="answer", pattern=SLOW).load()
    texts = ("a" * 40_000, "aab", "c")
    candidates = [
        Candidate([{"role": "user", "content": "?"}], response=text, reference_answer="aa")
        for text in texts
    ]
    dropped, right, wrong = verifier.score(candidates)
    assert isinstance(dropped, Drop)
    assert dropped.reason == "slow_pattern"
    assert "40000 characters" in dropped.detail
    assert (right, wrong) == (1.0, 0.0)


@pytest.mark.usefixtures("impatient")
def test_a_slow_pattern_of_a_judge_reads_no_verdict() -> None:
    form = grade_form(1, 10, UserPattern(r"(?:a+)+(?P<rating>\d)"))
    assert form.read_text("aa7") == 7
    assert "takes too long for 40000 characters" in str(form.read(Verdict("a" * 40_000)))


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?s)(?P<answer>.*)",
        r"(?s).*####\s*(?P<answer>-?[\d,.]+)\s*",
        r"(?is).*the answer is \(?(?P<answer>[A-J])\)?.*",
        r"(?s).*\\boxed\{(?P<answer>[^{}]*)\}.*",
    ],
)
@pytest.mark.parametrize("text", ["", "x\n#### 12", "The answer is (b).", r"\boxed{7}", "ÄÖ\n"])
def test_matches_are_those_of_re(pattern: str, text: str) -> None:
    expected, found = re.compile(pattern).fullmatch(text), UserPattern(pattern).fullmatch(text)
    assert (expected and expected["answer"]) == (found and found["answer"])


def test_what_is_no_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        UserPattern("(")

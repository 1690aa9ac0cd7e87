"""Checks of form: right in every script, refused where no response could pass, and fast."""

import json
import time
import unicodedata

import pytest

from wrpo.pipeline.tables import Drop
from wrpo.rewards import Candidate
from wrpo.rewards.forms.scripts import count_characters, count_words
from wrpo.rewards.instruction import InstructionReward

CHINESE = "这是一个很长的中文回答，其中包含了许多词语，远远超过二十个字，因此应该通过这项检查。"
FAMILY = "👨‍👩‍👧"


def score(checks: object, response: str, **fields: object) -> float | Drop:
    reward = InstructionReward(type="instruction", **fields).load()
    [value] = reward.score([Candidate([], response, json.dumps(checks))])
    return value


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("one two", 2),
        ("Don't stop the well-known 3.14 film, e.g. now.", 8),
        ("- a list — with dashes", 4),
        ("naïve cafe\u0301", 2),
        ("Привет, мир", 2),
        ("我喜欢苹果和梨", 7),
        ("你好，世界。", 4),
        ("我用Python 3写代码", 7),
        ("人々は、コンピューターが好き。", 13),
        ("저는 사과를 좋아해요.", 3),
        ("ฉันชอบ", 5),
        ("ฉันชอบ กิน", 7),
        ("أنا أحب القراءة، كثيرا", 4),
        ("मैं हिन्दी पढ़ता हूँ।", 4),
        ("👍 🎉 great", 1),
        (f"{FAMILY}", 0),
        ("", 0),
        ("...", 0),
        ("hello\u3000world", 2),
        ("Ａ，Ｂ", 2),
    ],
)
def test_words_in_each_script(text: str, count: int) -> None:
    assert count_words(text) == count
    assert count_words(unicodedata.normalize("NFC", text)) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("abc", 3),
        ("a b\r\nc", 5),
        ("cafe\u0301", 4),
        ("q\u0303\u0323", 1),
        ("我喜欢", 3),
        ("が\u304b\u3099", 2),
        ("한국\u1112\u1161\u11ab", 3),
        ("ที่นี่", 2),
        ("น้ำ", 1),
        ("कि", 1),
        ("كتابٌ", 4),
        (FAMILY, 1),
        ("👍🏽👍", 2),
        ("🇩🇪🇫🇷🇪", 3),
        ("1️⃣", 1),
        ("❤️‍🔥", 1),
        ("", 0),
    ],
)
def test_characters_as_readers_see_them(text: str, count: int) -> None:
    assert count_characters(text) == count


CHECKS: list[tuple[dict[str, object], str, str]] = [
    ({"min_words": 3}, "one two three", "one two - ."),
    ({"min_words": 20}, CHINESE, CHINESE[:19]),
    ({"min_words": 5}, "りんごが好き", "りんごだ。"),
    ({"min_words": 3}, "나는 너를 좋아해", "나는너를 좋아해"),
    ({"min_words": 5}, "ฉันชอบ", "น้ำดี"),
    ({"min_words": 2}, "مرحبا بالعالم", "مرحبا،"),
    ({"min_words": 1}, "👍 ok", "👍 🎉"),
    ({"max_words": 2}, "one two", "one two three"),
    ({"max_words": 5}, "中文回答。", CHINESE),
    ({"max_words": 2}, "안녕 친구", "안녕 내 친구"),
    ({"max_words": 6}, "สวัสดี", "สวัสดีชาวโลก"),
    ({"min_characters": 4}, "café", "caf\u0065"[:3]),
    ({"min_characters": 2}, "中文", FAMILY),
    ({"max_characters": 4}, "cafe\u0301", "cafes"),
    ({"max_characters": 2}, "ที่นี่", "ที่นี่ๆ"),
    ({"max_characters": 1}, FAMILY, FAMILY * 2),
    ({"bullets": 2}, "- a\n* b", "- a\nb"),
    ({"bullets": 2}, "1. a\n  2) b", "1.5 a\n**b**"),
    ({"bullets": 2}, "•a\r\n• b", "a •\nb"),
    ({"bullets": 3}, "1、苹果\n２．梨\n3.桃", "苹果\n梨\n3月"),
    ({"bullets": 2}, "（1）苹果\n①梨", "（苹果）\n梨"),
    ({"bullets": 2}, "一、苹果\n二、梨", "一个苹果\n二、"),
    ({"bullets": 2}, "・りんご\n● なし", "りんご・なし\n●"),
    ({"bullets": 2}, "١. تفاح\n٢. كمثرى", "تفاح\nكمثرى"),
    ({"bullets": 2}, "๑. แอปเปิล\n๒. ลูกแพร์", "แอปเปิล\nลูกแพร์"),
    ({"bullets": 1}, "- 🍎", "🍎"),
    ({"bullets": 0}, "no list", "- a"),
    ({"paragraphs": 2}, "a\nb\n\nc", "a\nb"),
    ({"paragraphs": 2}, "一\r\n \r\n二", "一\n二"),
    ({"paragraphs": 2}, "一\n\u3000\n\n二", "一\n\n二\n\n三"),
    ({"contains": "sea"}, "The Sea.", "seaside"),
    ({"contains": "C++"}, "In C++17.", "In C+"),
    ({"contains": "苹果"}, "我喜欢苹果和梨", "我喜欢梨"),
    ({"contains": "Python"}, "我用Python写代码", "Pythons"),
    ({"contains": "りんご"}, "私はりんごが好き", "私は梨が好き"),
    ({"contains": "사과"}, "저는 사과를 좋아해요", "저는 배를 좋아해요"),
    ({"contains": "사과"}, unicodedata.normalize("NFD", "사과"), "배"),
    ({"contains": "ชอบ"}, "ฉันชอบกิน", "ฉันกิน"),
    ({"contains": "كتاب"}, "هذا كِتابٌ جميل", "هذا قلم"),
    ({"contains": "कर"}, "काम कर लो", "काम करो"),
    ({"contains": "café"}, "Un CAFE\u0301 !", "Un cafe"),
    ({"contains": "👍"}, "ok👍ok", "ok"),
    ({"excludes": "sea"}, "seaside", "a sea"),
    ({"excludes": "苹果"}, "我喜欢梨", "我喜欢苹果和梨"),
    ({"excludes": "사과"}, "배를 좋아해요", "사과를 좋아해요"),
    ({"excludes": "ชอบ"}, "ฉันกิน", "ฉันชอบ"),
    ({"starts_with": "Dear"}, "Dear you", "dear you"),
    ({"starts_with": "你好"}, "你好，世界", "世界，你好"),
    ({"starts_with": "é"}, "e\u0301t\u00e9", "ete"),
    ({"ends_with": "bye."}, "so bye.\n", "bye. so"),
    ({"ends_with": "再见。"}, "再见。\u3000\n", "再见"),
    ({"json": True}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ({"json": True}, '~~~\r\n{"你": "好"}\r\n~~~', '“{"a": 1}”'),
    ({"json": False}, "text", "1"),
    ({"lowercase": True}, "grün 1", "Grün"),
    ({"lowercase": True}, "привет, 世界", "Привет"),
    ({"lowercase": True}, "a", "世界"),
    ({"uppercase": True}, "GRÜN 1", "GRüN"),
    ({"uppercase": True}, "ΑΒΓ 한국", "한국"),
    ({"uppercase": False}, "مرحبا", "A"),
    ({"no_commas": True}, "a b", "a, b"),
    ({"no_commas": True}, "你好 世界。", "你好，世界"),
    ({"no_commas": True}, "りんごとなし", "りんご、なし"),
    ({"no_commas": True}, "مرحبا", "مرحبا، يا عالم"),
    ({"no_commas": False}, "1,000", "1 000"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "good", "bad"), CHECKS)
def test_each_check_in_each_script(check: dict[str, object], good: str, bad: str) -> None:
    assert (score([check], good), score([check], bad)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("checks", "reason"),
    [
        ([{"sentences": 3}], "'sentences' is no check; checks are min_words"),
        ([{}], "one key"),
        ([{"min_words": 1, "max_words": 2}], "one key"),
        (["json"], "one key"),
        ([{"min_words": -1}], "at least 0"),
        ([{"min_words": 2.0}], "whole number"),
        ([{"min_words": "2"}], "whole number"),
        ([{"min_words": True}], "whole number"),
        ([{"min_words": None}], "whole number"),
        ([{"max_words": 0}], "at least 1"),
        ([{"paragraphs": 0}], "at least 1"),
        ([{"bullets": -3}], "at least 0"),
        ([{"contains": ""}], "takes a text"),
        ([{"contains": " "}], "takes a text"),
        ([{"contains": ["a"]}], "takes a text"),
        ([{"json": "yes"}], "true or false"),
        ([{"json": 1}], "true or false"),
        ([{"max_words": 3}, {"min_words": 5}], "contradict"),
        ([{"min_characters": 30}, {"json": True}, {"max_characters": 20}], "contradict"),
        ([{"bullets": 2}, {"bullets": 3}], "contradict"),
        ([{"paragraphs": 2}, {"paragraphs": 3}], "contradict"),
        ([{"lowercase": True}, {"uppercase": True}], "contradict"),
        ([{"json": True}, {"json": False}], "contradict"),
        ([{"contains": "the sea"}, {"excludes": "Sea"}], "contradict"),
        ([{"excludes": "果"}, {"contains": "苹果"}], "contradict"),
        ([{"starts_with": "a"}, {"starts_with": "b"}], "contradict"),
        ([{"ends_with": "a"}, {"ends_with": "b"}], "contradict"),
        ([{"no_commas": True}, {"contains": "你，我"}], "contradict"),
        ([{"lowercase": True}, {"starts_with": "Dear"}], "contradict"),
        ([{"uppercase": True}, {"ends_with": "bye"}], "contradict"),
    ],
)  # fmt: skip
def test_checks_that_no_response_passes_are_refused(checks: object, reason: str) -> None:
    found = score(checks, "a response")
    assert isinstance(found, Drop) and found.reason == "bad_checks"
    assert reason in found.detail


@pytest.mark.parametrize(
    "checks",
    [
        [{"min_words": 3}, {"max_words": 3}],
        [{"contains": "sea"}, {"excludes": "seaside"}],
        [{"starts_with": "Dear"}, {"starts_with": "Dear Sir"}],
        [{"lowercase": True}, {"contains": "Dear"}],
        [{"lowercase": False}, {"uppercase": False}],
        [{"excludes": "Dear"}, {"starts_with": "Dear"}],
        [{"min_words": 0}, {"bullets": 0}],
    ],
)
def test_checks_that_some_response_passes_are_not_refused(checks: object) -> None:
    assert not isinstance(score(checks, "dearest"), Drop)


LONG = [
    "\n" * 100_000, " \n" * 50_000, " " * 100_000, "\t\n \n" * 25_000, "." * 100_000,
    "a" * 100_000, "- " * 50_000, "1" * 100_000, "一" * 100_000, "🇩" * 100_000, FAMILY * 20_000,
    "\u0301" * 100_000, "```\n" * 25_000, "[" * 100_000, "~" * 100_000, "(1" * 50_000,
    "a b" * 33_333,
]  # fmt: skip


@pytest.mark.parametrize("text", LONG, ids=lambda text: ascii(text[:3]))
def test_checks_take_linear_time(text: str) -> None:
    checks = [{"min_words": 1}, {"min_characters": 1}, {"bullets": 1}, {"paragraphs": 1},
              {"contains": "a b"}, {"starts_with": "a"}, {"json": True}, {"lowercase": True},
              {"no_commas": True}]  # fmt: skip
    start = time.process_time()
    score(checks, f"x{text}y", partial=True)
    assert time.process_time() - start < 3

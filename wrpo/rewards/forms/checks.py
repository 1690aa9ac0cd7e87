"""Each check of form by its name, and which checks no response passes together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import combinations, pairwise

from wrpo.rewards.forms.scripts import (
    UNSPACED,
    composed,
    count_characters,
    count_words,
    has_comma,
    holds,
)

CheckValue = int | str | bool

_SPACE = r"[^\S\n]"
_BULLET = re.compile(
    rf"^{_SPACE}*(?:"
    rf"(?:[-*+–]|\d{{1,9}}[.)]){_SPACE}+|\d{{1,9}}[.)](?=[{UNSPACED}])"
    rf"|(?:[•‣⁃◦∙・●○◆◇■□▪▫①-⑳]|\d{{1,9}}[、．）]|[(（]\d{{1,3}}[)）]"
    rf"|[一二三四五六七八九十百]{{1,5}}[、．]|[(（][一二三四五六七八九十百]{{1,5}}[)）]){_SPACE}*"
    r")\S",
    re.M,
)
_FENCED = re.compile(r"(`{3,}|~{3,})[ \t]*(?:json\w*[ \t]*)?\n(.*)\n[ \t]*\1[`~]*", re.S | re.I)
_LINE_END = re.compile(r"\r\n|\r|\u2028|\u2029")


def lines_of(text: str) -> str:
    """The text as checks read it: composed letters, `\\n` at the ends of lines, none around it."""
    return composed(_LINE_END.sub("\n", text.strip()))


def bullets(text: str) -> int:
    """Lines that start with a bullet or a number of a list."""
    return len(_BULLET.findall(text))


def paragraphs(text: str) -> int:
    """Groups of lines that blank lines divide."""
    blank = [not line.strip() for line in ["", *text.split("\n")]]
    return sum(before and not line for before, line in pairwise(blank))


def is_json(text: str) -> bool:
    """Whether a text is JSON, fenced or not."""
    inner = _FENCED.fullmatch(text)
    try:
        json.loads(inner[2] if inner else text)
    except (ValueError, RecursionError):
        return False
    return True


def _has_case(text: str) -> bool:
    return any(letter.islower() or letter.isupper() for letter in text)


NUMBER_CHECKS: dict[str, Callable[[str, int], bool]] = {
    "min_words": lambda text, number: count_words(text) >= number,
    "max_words": lambda text, number: count_words(text) <= number,
    "min_characters": lambda text, number: count_characters(text) >= number,
    "max_characters": lambda text, number: count_characters(text) <= number,
    "bullets": lambda text, number: bullets(text) == number,
    "paragraphs": lambda text, number: paragraphs(text) == number,
}
TEXT_CHECKS: dict[str, Callable[[str, str], bool]] = {
    "contains": holds,
    "excludes": lambda text, keyword: not holds(text, keyword),
    "starts_with": lambda text, start: text.startswith(composed(start)),
    "ends_with": lambda text, end: text.endswith(composed(end)),
}
FLAG_CHECKS: dict[str, Callable[[str], bool]] = {
    "json": is_json,
    "lowercase": lambda text: _has_case(text) and text == text.lower(),
    "uppercase": lambda text: _has_case(text) and text == text.upper(),
    "no_commas": lambda text: not has_comma(text),
}
_LEAST = {"max_words": 1, "max_characters": 1, "paragraphs": 1}
"""Smallest number of a check that some response passes; 0 of the others."""


def problem(name: object, value: object) -> str | None:
    """What is wrong with one check, or None."""
    if name in NUMBER_CHECKS:
        least = _LEAST.get(str(name), 0)
        if type(value) is not int or value < least:
            return f"{name} takes a whole number of at least {least}"
    elif name in TEXT_CHECKS:
        if not isinstance(value, str) or not value.strip():
            return f"{name} takes a text"
    elif name in FLAG_CHECKS:
        if not isinstance(value, bool):
            return f"{name} takes true or false"
    else:
        known = ", ".join([*NUMBER_CHECKS, *TEXT_CHECKS, *FLAG_CHECKS])
        return f"{name!r} is no check; checks are {known}"
    return None


def contradiction(checks: list[tuple[str, CheckValue]]) -> str | None:
    """Two checks that no response passes together, or None."""
    for one, other in combinations(checks, 2):
        if _contradict(*one, *other) or _contradict(*other, *one):
            return f"{_shown(*one)} and {_shown(*other)} contradict each other"
    return None


def _contradict(name: str, value: CheckValue, other: str, second: CheckValue) -> bool:
    match name, value, other, second:
        case ("min_words", int(low), "max_words", int(high)) | (
            "min_characters", int(low), "max_characters", int(high)
        ):  # fmt: skip
            return low > high
        case ("bullets" | "paragraphs", int(), _, _) if name == other:
            return value != second
        case ("json" | "lowercase" | "uppercase" | "no_commas", bool(), _, _) if name == other:
            return value != second
        case "lowercase", True, "uppercase", True:
            return True
        case "starts_with", str(), "starts_with", str():
            return not value.startswith(second) and not second.startswith(value)
        case "ends_with", str(), "ends_with", str():
            return not value.endswith(second) and not second.endswith(value)
        case "excludes", str(), "contains", str():
            return holds(second, value)
        case "no_commas", True, "contains" | "starts_with" | "ends_with", str():
            return has_comma(second)
        case "lowercase", True, "starts_with" | "ends_with", str():
            return second != second.lower()
        case "uppercase", True, "starts_with" | "ends_with", str():
            return second != second.upper()
    return False


def _shown(name: str, value: CheckValue) -> str:
    return json.dumps({name: value}, ensure_ascii=False)

"""Reads verdicts out of replies: one way for all rewards and benchmarks.

The last verdict of the required form counts; thoughts and quoted text hold none. A reply that ends
with two different verdicts side by side has none either: no verdict is better than a wrong one.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from wrpo.judging.request import Verdict

SLOT = r"\[\[(?P<{group}>[^\[\]\n]*)\]\]"
"""Double square brackets, the form that all prompts of this toolkit ask for."""

_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_ESCAPED_BRACKET = re.compile(r"\\([\[\]])")
_MARKUP = " \t*_`\"'$"
_NUMBER = re.compile(
    r"(?:(?:grade|rating|score)\s*:?\s*)?"
    r"(?P<value>[+-]?\d+(?:[.,\u066b]\d{1,2}|\.\d+)?)"
    r"(?:\s*(?:/|out\s+of)\s*(?P<top>\d+(?:\.\d+)?))?",
    re.IGNORECASE,
)
_NEVER = re.compile(
    r"\"[^\"\n]*\"|\u201c[^\u201c\u201d\n]*\u201d|\u201e[^\u201c\u201e\n]*\u201c"
    r"|\u00ab[^\u00ab\u00bb\n]*\u00bb|\u300c[^\u300c\u300d\n]*\u300d"
    r"|\u2018[^\u2018\u2019\n]*\u2019|(?<!\w)'[^'\n]*'(?!\w)"
)
"""Of quotes inside quotes only the inner ones, for the time that others take."""
_TAG = re.compile(r"<((?:reply|response|conversation|prompt)[\w-]*)>")
_ONLY_ALONE = re.compile(r"```.*?```|`[^`\n]+`|^[ \t]*>[^\n]*", re.DOTALL | re.MULTILINE)
_SENTENCE_ENDS = re.compile(r"[.!?;\u3002\uff01\uff1f](?=\s)|[\u3002\uff01\uff1f]|\n")
_REVISES = re.compile(
    r"\b(?:but|yet|however|though|instead|rather|final(?:ly)?|overall|reflection|reconsider\w*|"
    r"revis\w+|correct\w*|chang\w+|settle|actually|so|thus|therefore|hence|first|then|later|"
    r"initially|mais|aber|pero|finale?ment)\b|\u4f46|\u6700\u7ec8|\u6700\u540e|\u2192|[-=]>",
    re.IGNORECASE,
)
_JOINS = re.compile(r"\b(?:or|and|to|vs|versus|oder|und|bis|ou|et|o|y)\b", re.IGNORECASE)


class Match(Protocol):
    """A match of a regular expression."""

    def __getitem__(self, group: Any, /) -> Any: ...
    def start(self) -> int: ...
    def end(self) -> int: ...


class Pattern(Protocol):
    """A regular expression; that of a recipe may raise TimeoutError."""

    def finditer(self, text: str, /) -> Iterable[Match]:
        """All matches."""


@dataclass(frozen=True)
class VerdictForm:
    """What a verdict of one kind looks like.

    Attributes:
        pattern: finds verdicts in a reply; the group `group` is what is read.
        value: the number that this text stands for; None where it stands for none.
        name: for messages, e.g. "grade from 1 to 10".
    """

    pattern: Pattern
    group: str
    value: Callable[[str], float | None]
    name: str

    def read(self, verdict: Verdict, *, limited: bool = False) -> float | str:
        """The number that a reply says, or why it says none.

        Args:
            limited: the protocol itself limits the reply, so that being cut means nothing.
        """
        if missing := verdict.missing(limited=limited):
            return missing
        return self.read_text(verdict.answer)

    def read_text(self, answer: str) -> float | str:
        """The same for a reply without its thoughts."""
        text = unescaped(answer)
        try:
            found = list(self.pattern.finditer(text))
        except TimeoutError:
            return f"the pattern takes too long for {len(text)} characters"
        quoted = _quoted(text, found)
        counting = [match for match in found if match not in quoted]
        if not counting:
            return f"no {self.name} in {answer[-200:]!r}"
        last = counting[-1]
        value = self._value(last)
        if value is None:
            return f"no {self.name}: {last[0][:100]!r}"
        rivals = [match for match in counting[:-1] if self._value(match) != value]
        if rivals and not _revised(text[rivals[-1].end() : last.start()]):
            return f"two verdicts side by side: {rivals[-1][0]!r} and {last[0]!r}"
        if found[-1] is not last and self._value(found[-1]) != value:
            return f"another verdict is quoted after {last[0]!r}: {found[-1][0]!r}"
        return value

    def _value(self, match: Match) -> float | None:
        return self.value(match[self.group] or "")


def unescaped(text: str) -> str:
    """The text without escapes and full-width forms of ASCII."""
    return _ESCAPED_BRACKET.sub(r"\1", html.unescape(text.translate(_FULL_WIDTH)))


def grade_form(
    low: float, high: float, pattern: Pattern | None = None, *, group: str = "rating"
) -> VerdictForm:
    """A number from `low` to `high`: 7, 7.5, 7,5, or 7/10 where `high` is 10.

    Args:
        pattern: finds it; None: `SLOT`.
    """

    def value(text: str) -> float | None:
        found = _NUMBER.fullmatch(text.strip(_MARKUP).rstrip("."))
        if found is None or (found["top"] and float(found["top"]) != high):
            return None
        number = float(re.sub("[,\u066b]", ".", found["value"]))
        return number if low <= number <= high else None

    slot = pattern or re.compile(SLOT.format(group=group))
    return VerdictForm(slot, group, value, f"grade from {low:g} to {high:g}")


def label_form(
    labels: Mapping[str, float], pattern: Pattern | None = None, *, group: str = "verdict"
) -> VerdictForm:
    """One of several labels, each with its number; spaces and case mean nothing.

    Args:
        pattern: finds it; None: `SLOT`.
    """
    numbers = {label.casefold(): number for label, number in labels.items()}

    def value(text: str) -> float | None:
        return numbers.get("".join(text.strip(_MARKUP).split()).casefold())

    slot = pattern or re.compile(SLOT.format(group=group))
    return VerdictForm(slot, group, value, f"verdict ({', '.join(labels)})")


def _quoted(text: str, found: list[Match]) -> list[Match]:
    """The matches inside quotations; code and block quotes may hold a verdict that is alone."""
    never = [*(span.span() for span in _NEVER.finditer(text)), *_tagged(text)]
    code = [(span.span(), span[0].strip(" \t\n>`*_")) for span in _ONLY_ALONE.finditer(text)]
    return [
        match
        for match in found
        if any(_inside(match, span) for span in never)
        or any(_inside(match, span) and inner != match[0] for span, inner in code)
    ]


def _tagged(text: str) -> Iterator[tuple[int, int]]:
    """The spans between tags; each tag is looked for once where it has no end."""
    place, endless = 0, set[str]()
    for found in _TAG.finditer(text):
        if found.start() < place or found[1] in endless:
            continue
        end = text.find(f"</{found[1]}>", found.end())
        if end < 0:
            endless.add(found[1])
        else:
            place = end + len(found[1]) + 3
            yield found.start(), place


def _inside(match: Match, span: tuple[int, int]) -> bool:
    return span[0] <= match.start() and match.end() <= span[1]


def _revised(between: str) -> bool:
    """Whether the words between two verdicts leave the second one standing alone."""
    if not re.search(r"\w", _JOINS.sub("", between)):
        return False
    return bool(_SENTENCE_ENDS.search(between) or _REVISES.search(between))

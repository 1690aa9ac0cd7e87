"""Foreign text in a terminal: what would steer it is shown as an escape."""

from __future__ import annotations

import re

# Control characters but tab and line feed, those that order or hide text (bidirectional marks, soft
# hyphen, zero-width space, tags), separators of lines and paragraphs, and lone surrogates.
_STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""The text with each character that a terminal obeys as an escape; lines stay lines.

    >>> visible("\x1b[2Jgone\r")
    '\\x1b[2Jgone\\r'
    """
    return _STEERING.sub(_escape, text)


def one_line(text: str) -> str:
    r"""The same on one line.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")

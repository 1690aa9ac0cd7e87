"""No text that is shown steers the terminal."""

from __future__ import annotations

import unicodedata

import pytest

from wrpo.display.characters import one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J", "\\x9b2J"),
        ("safe\rgone", "safe\\rgone"),
        ("a\x08b\x00c\x7f", "a\\x08b\\x00c\\x7f"),
        ("\u202egnp.exe\u202c", "\\u202egnp.exe\\u202c"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("a\u2028b\x85c", "a\\u2028b\\x85c"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("日本語 é 👩\u200d🚀 עברית", "日本語 é 👩\u200d🚀 עברית"),
    ],
)
def test_what_steers_is_an_escape_and_the_rest_stays(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert "\n" not in one_line(text)


def test_no_control_character_is_left() -> None:
    left = visible("".join(map(chr, range(0x10FFFF))))
    controls = {c for c in left if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}
    assert controls == {"\n", "\t"}
    assert not {c for c in left if unicodedata.bidirectional(c) in ("RLO", "LRO", "RLE", "LRE")}
    assert not {c for c in left if unicodedata.bidirectional(c) in ("LRI", "RLI", "FSI", "PDF")}

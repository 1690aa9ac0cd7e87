"""Where a text may be cut so that every model can go on from there: between words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

_JOINER = "\u200d"
_CLINGING = {"Mn", "Mc", "Me", "Cf", "Sk"}
"""Categories of marks, joiners and skin tones, which belong to the character before them."""


def word_cuts(text: str) -> Iterator[int]:
    """Places after which a new word begins, in characters, in order.

    A word is cut off before the white space that follows it, which the next word begins with, as
    the tokens of most tokenizers do. Wide characters (Chinese, Japanese, emoji) are words of their
    own. The end of the text is no place: nobody knows how its last word goes on.
    """
    for place in range(1, len(text)):
        before, after = text[place - 1], text[place]
        if before.isspace() or before == _JOINER or unicodedata.category(after) in _CLINGING:
            continue
        if after.isspace() or _wide(before) or _wide(after):
            yield place


def _wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")

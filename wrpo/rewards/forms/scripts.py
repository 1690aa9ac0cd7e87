"""What counts as a word, as a character and as a keyword in the scripts of the world.

Scripts with spaces (Latin, Cyrillic, Arabic, Devanagari, Korean): a word is what stands between
spaces and holds a letter or a digit; a keyword is found as whole words, in Korean anywhere, for
particles follow without a space. Scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer,
Burmese): each letter counts as a word, marks above and below it do not, and a keyword is found
anywhere. A Chinese word has about 1.5 letters, a Thai one about four. A character is what readers
see as one (UAX #29): an emoji of several code points, a letter with its marks, a flag.
"""

from __future__ import annotations

import re
import unicodedata

UNSPACED = (
    "\u3005-\u3007\u3021-\u3029\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"  # Han, kana, bopomofo
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf"  # Thai, Lao, Burmese, Khmer
)
"""Scripts without spaces between words, as a class of a regular expression."""
_HANGUL = "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"
_WIDE_MARKS = "\u3000-\u3004\u3008-\u3020\u3030\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_LETTER = re.compile(rf"(?=\w)[{UNSPACED}]")
_RUN = re.compile(rf"[^\s{UNSPACED}{_WIDE_MARKS}]+")
_FREE_EDGE = re.compile(rf"[{UNSPACED}{_HANGUL}]")
_POINTS = re.compile("[\u0591-\u05bd\u05bf\u05c1\u05c2\u0640\u064b-\u065f\u0670]")
"""Vowel points and the tatweel, which Hebrew and Arabic may leave out."""
_COMMA = re.compile("[,،՝߸፣᠂᠈、︐︑﹐﹑，､⸲⸴⹁꓾꘍꛵]")

_JOINER = "\u200d"
_SARA_AM = "\u0e33\u0eb3"


def count_words(text: str) -> int:
    """How many words a text has."""
    runs = sum(any(map(str.isalnum, run)) for run in _RUN.findall(text))
    return runs + len(_LETTER.findall(text))


def count_characters(text: str) -> int:
    """How many characters readers see, spaces included; a line end is one."""
    count = flags = 0
    before = ""
    for character in unicodedata.normalize("NFC", text.replace("\r\n", "\n")):
        flags = flags + 1 if "\U0001f1e6" <= character <= "\U0001f1ff" else 0
        joined = before == _JOINER and unicodedata.category(character) == "So"
        if not (_extends(character) or joined or (flags and flags % 2 == 0)):
            count += 1
        before = character
    return count or len(text[:1])


def holds(text: str, keyword: str) -> bool:
    """Whether a keyword is in a text, in any case, and as whole words where words have spaces."""
    text, keyword = _plain(text), _plain(keyword)
    at = text.find(keyword)
    while at >= 0:
        end = at + len(keyword)
        behind = text[end : end + 1]
        if not (
            _joined(text[at - 1 : at], keyword[0])
            or _joined(keyword[-1], behind)
            or unicodedata.category(behind or " ") == "Mc"
        ):
            return True
        at = text.find(keyword, at + 1)
    return False


def has_comma(text: str) -> bool:
    """Whether a text has a comma of any script."""
    return _COMMA.search(text) is not None


def composed(text: str) -> str:
    """The form in which a letter with a mark is one code point, where there is one (NFC)."""
    return unicodedata.normalize("NFC", text)


def _plain(text: str) -> str:
    return _POINTS.sub("", unicodedata.normalize("NFC", text).casefold())


def _joined(left: str, right: str) -> bool:
    """Whether two neighbours belong to one word of a script with spaces."""
    return all(
        character
        and (character.isalnum() or character == "_" or _is_mark(character))
        and _FREE_EDGE.match(character) is None
        for character in (left, right)
    )


def _is_mark(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Mc") and not "\ufe00" <= character <= "\ufe0f"


def _extends(character: str) -> bool:
    """Whether a code point belongs to the character before it."""
    return (
        unicodedata.category(character) in ("Mn", "Me", "Mc")
        or character in (_JOINER, "\u200c", *_SARA_AM)
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U000e0020" <= character <= "\U000e007f"
    )

"""Word n-grams of a text as 64-bit hashes that are the same on every machine.

In scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Burmese, Khmer), each
character counts as a word.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff" + (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
)
# Marks that belong to a word though they are no letters: accents, points, vowels of Indic scripts.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0971-\u0dff"
_WORD = re.compile(rf"(?=\w)[{_UNSPACED}]|[^\W{_UNSPACED}](?:[{_MARKS}]|[^\W{_UNSPACED}])*")
_BASE = np.uint64(0x9E3779B97F4A7C15)


def words(text: str) -> list[str]:
    """Words without case and punctuation, in the compatibility form of Unicode (NFKC)."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def ngram_hashes(tokens: list[str], size: int) -> Hashes:
    """Hash of each n-gram in order, shape (max(1, words - size + 1),).

    A text of fewer than `size` words is one n-gram of its own length; one without words has none.
    """
    if not tokens:
        return np.empty(0, dtype=np.uint64)
    size = min(size, len(tokens))
    hashes = np.array([_word_hash(token) for token in tokens], dtype=np.uint64)
    count = len(tokens) - size + 1
    joined = np.full(count, size, dtype=np.uint64)
    for offset in range(size):
        joined = joined * _BASE + hashes[offset : offset + count]
    return mixed(joined)


def mixed(values: Hashes) -> Hashes:
    """Spreads every bit of a value over all bits (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=1 << 20)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8"), digest_size=8).digest(), "big")

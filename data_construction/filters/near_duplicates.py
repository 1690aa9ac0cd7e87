"""Near-duplicate prompts: hashing finds candidates, exact Jaccard similarity decides.

MinHash and locality-sensitive hashing, as in Broder 1997 and in Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, chapter 3.

Prompts are taken in the order of their ids, and one is dropped when it is too similar to one that
is kept. So the result does not depend on the order of rows, no prompt is dropped for its likeness
to a dropped one, and of near copies the lowest id stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_construction.filters.ngrams import Hashes, mixed, ngram_hashes, words

PERMUTATIONS = 128
MISSED = 0.005
"""Largest chance to overlook a pair whose similarity is just the threshold."""

_SEEDS = mixed(np.arange(1, PERMUTATIONS + 1, dtype=np.uint64))


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """The kept prompt that another is too similar to."""

    kept: str
    similarity: float


def near_duplicates(
    texts: Mapping[str, str], *, threshold: float, ngram: int
) -> dict[str, NearDuplicate]:
    """The prompts to drop, by id.

    Args:
        texts: text by prompt id.
        threshold: Jaccard similarity of the sets of word n-grams from which a prompt is dropped.
        ngram: words per n-gram.
    """
    rows = rows_per_band(threshold)
    buckets: dict[tuple[int, bytes], list[str]] = {}
    kept: dict[str, Hashes] = {}
    found: dict[str, NearDuplicate] = {}
    for key in sorted(texts):
        grams = np.unique(ngram_hashes(words(texts[key]), ngram))
        if not len(grams):
            continue
        bands = _bands(grams, rows)
        candidates = {other for band in bands for other in buckets.get(band, ())}
        duplicate = _first_similar(grams, sorted(candidates), kept, threshold)
        if duplicate:
            found[key] = duplicate
            continue
        kept[key] = grams
        for band in bands:
            buckets.setdefault(band, []).append(key)
    return found


def rows_per_band(threshold: float) -> int:
    """The most hashes per band that still find pairs at `threshold` with a chance of 1 - MISSED.

    A pair of similarity s agrees in one of b bands of r hashes with chance 1 - (1 - s**r)**b.
    """
    sizes = range(PERMUTATIONS, 0, -1)
    fitting = (r for r in sizes if (1 - threshold**r) ** (PERMUTATIONS // r) <= MISSED)
    return next(fitting, 1)


def jaccard(first: Hashes, second: Hashes) -> float:
    """Shared elements over all elements of two sets of unique hashes."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)


def _bands(grams: Hashes, rows: int) -> list[tuple[int, bytes]]:
    # Each seed gives another order of the hashes; which gram is first is the MinHash.
    signature = mixed(grams ^ _SEEDS[:, None]).min(axis=1).astype("<u8")
    count = PERMUTATIONS // rows
    return [(band, signature[band * rows : (band + 1) * rows].tobytes()) for band in range(count)]


def _first_similar(
    grams: Hashes, candidates: list[str], kept: Mapping[str, Hashes], threshold: float
) -> NearDuplicate | None:
    for other in candidates:
        similarity = jaccard(grams, kept[other])
        if similarity >= threshold:
            return NearDuplicate(other, similarity)
    return None

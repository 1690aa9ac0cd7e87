import random

import numpy as np
import pytest

from data_construction.filters.near_duplicates import jaccard, near_duplicates, rows_per_band
from data_construction.filters.ngrams import ngram_hashes, words

VOCABULARY = [f"word{number}" for number in range(400)]


def text(seed: int, length: int = 60) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=length)


def changed(tokens: list[str], place: int) -> list[str]:
    return [*tokens[:place], "changed", *tokens[place + 1 :]]


def test_near_copies_are_found_and_the_lowest_id_stays_whatever_the_order() -> None:
    texts = {f"{seed:02d}": " ".join(text(seed)) for seed in range(20)}
    copies = {f"copy{seed:02d}": " ".join(changed(text(seed), 30)) for seed in range(10)}
    everything = {**copies, **texts}
    found = near_duplicates(everything, threshold=0.8, ngram=5)
    assert {key: value.kept for key, value in found.items()} == {
        f"copy{seed:02d}": f"{seed:02d}" for seed in range(10)
    }
    shuffled = sorted(everything.items(), key=lambda item: item[1])
    assert near_duplicates(dict(shuffled), threshold=0.8, ngram=5) == found


def test_a_pair_below_the_threshold_stays() -> None:
    first = text(1)
    second = [*first[:30], *text(2)[:30]]
    texts = {"a": " ".join(first), "b": " ".join(second)}
    assert near_duplicates(texts, threshold=0.8, ngram=5) == {}
    assert near_duplicates(texts, threshold=0.5, ngram=1).keys() <= {"b"}


def test_no_prompt_is_dropped_for_its_likeness_to_a_dropped_one() -> None:
    base = text(1)
    near, far = changed(base, 30), changed(changed(base, 30), 10)
    texts = {"a": " ".join(base), "b": " ".join(near), "c": " ".join(far)}
    grams = [np.unique(ngram_hashes(words(value), 5)) for value in texts.values()]
    between = jaccard(grams[0], grams[2])
    assert between < 0.8 <= min(jaccard(grams[0], grams[1]), jaccard(grams[1], grams[2]))
    assert list(near_duplicates(texts, threshold=0.8, ngram=5)) == ["b"]


def test_case_punctuation_and_spaces_do_not_matter_and_short_texts_compare_whole() -> None:
    texts = {"a": "Say, hill!", "b": "say   HILL", "c": "say moon", "d": "...", "e": "?!"}
    found = near_duplicates(texts, threshold=0.8, ngram=5)
    assert found.keys() == {"b"} and found["b"].similarity == 1.0


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.95])
def test_bands_find_pairs_at_the_threshold_almost_surely(threshold: float) -> None:
    rows = rows_per_band(threshold)
    assert (1 - threshold**rows) ** (128 // rows) <= 0.005
    assert (1 - threshold ** (rows + 1)) ** (128 // (rows + 1)) > 0.005


def test_ngram_hashes_are_those_of_every_machine_and_run() -> None:
    assert ngram_hashes(["one", "two", "three"], 2).tolist() == [
        754231172925761596,
        11234908035251380240,
    ]

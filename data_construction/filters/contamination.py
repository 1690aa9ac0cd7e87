"""Prompts that overlap with benchmarks: one shared word n-gram is enough.

As in the analysis of GPT-3 (arXiv 2005.14165, appendix C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from data_construction.datasets.messages import MessageList, to_messages
from data_construction.datasets.records import located_records
from data_construction.filters.ngrams import ngram_hashes, words
from wrpo.errors import DataError, MissingInputError
from wrpo.pipeline.tables import Drop
from wrpo.recipe.prompts import BenchmarkTexts, Decontaminate


@dataclass(frozen=True, slots=True)
class Overlap:
    """The benchmark that a prompt overlaps with, and the words that they share."""

    benchmark: str
    shared: str


class BenchmarkIndex:
    """The word n-grams of named benchmarks."""

    def __init__(self, ngram: int) -> None:
        self.ngram = ngram
        self._owner: dict[int, str] = {}

    def add(self, benchmark: str, text: str) -> None:
        """Adds one question; an n-gram of several benchmarks stays the first one's."""
        for gram in ngram_hashes(words(text), self.ngram).tolist():
            self._owner.setdefault(gram, benchmark)

    def overlap(self, text: str) -> Overlap | None:
        """The first n-gram of `text` that a benchmark has; a question of fewer words than the
        n-gram must be equal to the text."""
        tokens = words(text)
        for start, gram in enumerate(ngram_hashes(tokens, self.ngram).tolist()):
            if gram in self._owner:
                shared = " ".join(tokens[start : start + self.ngram])
                return Overlap(self._owner[gram], shared)
        return None


def benchmark_index(settings: Decontaminate) -> BenchmarkIndex:
    """Reads the benchmarks of a recipe.

    Raises:
        MissingInputError: a benchmark is not there.
        DataError: a benchmark is empty, or one of its rows has no such text.
    """
    index = BenchmarkIndex(settings.ngram)
    for name, benchmark in settings.benchmarks.items():
        for text in _questions(name, benchmark):
            index.add(name, text)
    return index


def whole_text(messages: Sequence[dict[str, str]]) -> str:
    """The text of all turns."""
    return "\n".join(turn["content"] for turn in messages)


def _questions(name: str, benchmark: BenchmarkTexts) -> list[str]:
    where = f"prompts.decontaminate.benchmarks.{name}"
    try:
        questions = [
            whole_text(_question(record, benchmark, f"{where}: {place}"))
            for place, record in located_records(benchmark)
        ]
    except MissingInputError as error:
        raise MissingInputError(f"{where}: {error}") from None
    if not questions:
        raise DataError(f"{where}: {benchmark.path} holds no rows")
    return questions


def _question(record: object, benchmark: BenchmarkTexts, where: str) -> MessageList:
    try:
        if isinstance(record, Drop):
            raise record
        if not isinstance(record, dict) or benchmark.column not in record:
            columns = ", ".join(record) if isinstance(record, dict) else type(record).__name__
            raise Drop("unusable", f'no column "{benchmark.column}"; it has: {columns}')
        return to_messages(record[benchmark.column])
    except Drop as drop:
        raise DataError(f"{where}: {drop.detail}") from None

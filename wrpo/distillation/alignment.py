"""Distributions of a teacher over its own tokens as distributions over the student's.

Two steps. Positions: a token of the student and one of the teacher that stand for the same bytes of
the response are predicted at the same place. Vocabularies: each stored token of the teacher becomes
a token of the student, by one of the papers' ways. What cannot be mapped stays in the remainder;
where no position of the teacher fits, the target is the next label itself.

    hard         the token of the same bytes (FuseLLM)
    soft         else the one at the smallest edit distance (FuseLLM)
    statistics   the token that most resembles it among those that it was aligned with in the
                 corpus (FuseChat): argmin edit(a, b) * (0.1 if one contains the other) * s(N[a, b])

The papers align strings by edit distance and dynamic programming; spans of bytes need neither.
FuseChat's s is sigmoid(N), which grows with the count and so prefers rare partners; here it is
1 / sigmoid(N), which prefers frequent ones by as much, unless `upstream`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from wrpo.distillation.token_bytes import TokenBytes

VocabularyMap = Literal["hard", "soft", "statistics"]

Span = tuple[int, int] | None


class Stored(NamedTuple):
    """Distributions of a response: per token k ids and log-probs, and the log of the remainder."""

    ids: list[list[int]]
    logps: list[list[float]]
    rest: list[float]


def partners(student: Sequence[Span], teacher: Sequence[Span]) -> list[int | None]:
    """For each token of the student, the place of the teacher's token of the same bytes."""
    places = {span: place for place, span in enumerate(teacher) if span is not None}
    return [None if span is None else places.get(span) for span in student]


@dataclass
class Vocabulary:
    """From tokens of a teacher to tokens of the student.

    Attributes:
        counts: how often two tokens overlapped in the corpus, for `statistics`.
    """

    teacher: TokenBytes
    student: TokenBytes
    how: VocabularyMap = "hard"
    upstream: bool = False
    counts: dict[int, Counter[int]] = field(default_factory=dict)
    _known: dict[int, int | None] = field(default_factory=dict)

    def observe(
        self,
        student: Iterable[tuple[int, Span]],
        teacher: Iterable[tuple[int, Span]],
    ) -> None:
        """Counts the tokens of both that stand for common bytes of one response."""
        own = [(token, span) for token, span in student if span and span[0] < span[1]]
        for token, span in teacher:
            if not span:
                continue
            for other, its in own:
                if its and its[0] < span[1] and span[0] < its[1]:
                    self.counts.setdefault(token, Counter())[other] += 1

    def __getitem__(self, token: int) -> int | None:
        """The student's token; None: there is none."""
        if token not in self._known:
            self._known[token] = self._find(token)
        return self._known[token]

    def _find(self, token: int) -> int | None:
        if token == self.teacher.end:
            return self.student.end
        content = self.teacher[token]
        if content is None:
            return None
        same = self.student.id_of(content)
        if same is not None or self.how == "hard":
            return same
        if self.how == "statistics":
            return self._most_like(content, self.counts.get(token, Counter()))
        return self._nearest(content)

    def _most_like(self, content: bytes, counts: Counter[int]) -> int | None:
        def distance(other: int) -> tuple[float, int]:
            its = self.student[other] or b""
            contained = 0.1 if its in content or content in its else 1.0
            rare = 1 + math.exp(-counts[other])
            weight = 1 / rare if self.upstream else rare
            return edit_distance(content, its) * contained * weight, other

        return min(counts, key=distance, default=None)

    def _nearest(self, content: bytes) -> int | None:
        best, chosen = math.inf, None
        for other, its in self.student.items():
            if abs(len(its) - len(content)) < best:
                distance = edit_distance(content, its)
                if distance < best:
                    best, chosen = distance, other
        return chosen


def edit_distance(one: bytes, other: bytes) -> int:
    """Levenshtein's: how many bytes are added, taken away or replaced."""
    row = list(range(len(other) + 1))
    for place, byte in enumerate(one, start=1):
        previous, row[0] = row[0], place
        for column, its in enumerate(other, start=1):
            least = min(row[column] + 1, row[column - 1] + 1, previous + (byte != its))
            previous, row[column] = row[column], least
    return row[-1]


def transferred(
    stored: Stored, places: Sequence[int | None], labels: Sequence[int], vocabulary: TokenMap
) -> Stored:
    """The distributions at the student's positions.

    Args:
        stored: of the teacher, per token of its own.
        places: of `partners`.
        labels: the token of each position that no position of the teacher fits: all probability
            is on it. It is the one that the position predicts, unless traps are reproduced.
    """
    made = Stored([], [], [])
    for place, label in zip(places, labels, strict=True):
        if place is None:
            entries, rest = {label: 0.0}, -math.inf
        else:
            entries, rest = _mapped(stored, place, vocabulary)
        made.ids.append(list(entries))
        made.logps.append(list(entries.values()))
        made.rest.append(rest)
    return made


class TokenMap(Protocol):
    """From tokens of a teacher to tokens of the student; None: there is none."""

    def __getitem__(self, token: int) -> int | None: ...


@dataclass(frozen=True)
class SameTokens:
    """The map between equal tokenizers: models may have more logits than there are tokens."""

    count: int

    def __getitem__(self, token: int) -> int | None:
        return token if token < self.count else None


def _mapped(stored: Stored, place: int, vocabulary: TokenMap) -> tuple[dict[int, float], float]:
    """The entries of one position that have a token of the student, the first of several; all
    other mass is in the remainder."""
    entries: dict[int, float] = {}
    lost = 0.0
    for token, logp in zip(stored.ids[place], stored.logps[place], strict=True):
        mapped = vocabulary[token]
        if mapped is None or mapped in entries:
            lost += math.exp(logp)
        else:
            entries[mapped] = logp
    rest = math.exp(stored.rest[place]) + lost
    return entries, math.log(rest) if rest > 0 else -math.inf

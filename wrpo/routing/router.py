"""A router: a linear model of words that ranks the sources of a prompt, as one JSON file."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from wrpo.chat.template import Messages
from wrpo.errors import MissingInputError
from wrpo.files import read_json, replacing

BUCKETS = 1 << 13
_WORD = re.compile(r"\w+|[^\w\s]")
_MOST_WORDS = 512


def features(messages: Messages) -> list[int]:
    """Buckets of the words and the pairs of neighbouring words of a prompt, each once."""
    text = "\n".join(turn["content"] for turn in messages).lower()
    words = _WORD.findall(text)[:_MOST_WORDS]
    pairs = [f"{one} {other}" for one, other in pairwise(words)]
    return sorted({zlib.crc32(term.encode()) % BUCKETS for term in ["", *words, *pairs]})


@dataclass(frozen=True)
class Router:
    """Ranks sources.

    Attributes:
        sources: by name, in the order of the columns.
        weights: of each bucket that training has seen, one number per source.
        shares: of the prompts that it learned from, how many each source gets when each prompt
            goes to 1, 2, ... sources.
    """

    sources: tuple[str, ...]
    weights: Mapping[int, Sequence[float]]
    shares: Sequence[Mapping[str, float]] = ()

    def scores(self, messages: Messages) -> list[float]:
        """s of each source: the sum of the weights of n buckets, over the square root of n."""
        buckets = features(messages)
        scale = len(buckets) ** -0.5
        rows = [self.weights[bucket] for bucket in buckets if bucket in self.weights]
        return [scale * sum(row[i] for row in rows) for i in range(len(self.sources))]

    def chosen(self, messages: Messages, *, count: int) -> list[str]:
        """The best sources; ties go to the first name."""
        scores = self.scores(messages)
        ranked = sorted(zip(self.sources, scores, strict=True), key=lambda one: (-one[1], one[0]))
        return [name for name, _ in ranked[:count]]

    def save(self, path: Path, **facts: Any) -> None:
        """Writes the file, with facts for its reader."""
        content = {
            "sources": list(self.sources),
            "shares": [dict(one) for one in self.shares],
            **facts,
            "weights": {str(k): [round(w, 6) for w in row] for k, row in self.weights.items()},
        }
        with replacing(path) as partial:
            partial.write_text(json.dumps(content) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Router:
        """Reads the file.

        Raises:
            MissingInputError: it is not there.
            DataError: it is damaged.
        """
        way_out = "learn it again: python -m wrpo.routing"
        try:
            content = read_json(path, dict, way_out=way_out)
        except FileNotFoundError:
            raise MissingInputError(f"sample.router.file: no file {path}; {way_out}") from None
        weights = {int(bucket): row for bucket, row in content["weights"].items()}
        return cls(tuple(content["sources"]), weights, content["shares"])

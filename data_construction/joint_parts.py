"""Parts of several sources with answers to the same prompts, so that they are scored at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc

from wrpo.tables import RESPONSES, read_column


class Part(NamedTuple):
    """One part of the answers of a source."""

    source: str
    number: int
    path: Path


def joint_parts(parts: Iterable[Part]) -> Iterator[tuple[Part, ...]]:
    """Every part once, together with those whose prompts overlap with its own.

    Answers lie in the order of their prompts' ids. Sources with equal `chunk_prompts` are cut at
    the same prompts, but for those that one of them drops: then a group has one part of each.
    Otherwise the longest of those that come first brings all that begin within it.
    """
    waiting = sorted(((*_span(part.path), part) for part in parts), key=lambda item: item[2])
    waiting.sort(key=lambda item: item[1], reverse=True)
    waiting.sort(key=lambda item: item[0])
    while waiting:
        end = waiting[0][1]
        count = sum(1 for first, _, _ in waiting if first <= end)
        yield tuple(part for _, _, part in waiting[:count])
        del waiting[:count]


def _span(path: Path) -> tuple[str, str]:
    """The first and the last prompt id; two empty texts where every prompt was dropped."""
    ends = pc.min_max(read_column(path, "prompt_id", RESPONSES))
    return ends["min"].as_py() or "", ends["max"].as_py() or ""

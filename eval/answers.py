"""The same held-out prompts answered by every model, side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from eval.board import Board
from eval.results import Sample, SampleId
from wrpo.ids import digest

PROMPTS_SHOWN = 60
LONGEST = 1500


def side_by_side(
    answered: Mapping[str, list[Sample]], board: Board, *, count: int = PROMPTS_SHOWN
) -> list[dict[str, Any]]:
    """Prompts with the answer and scores of each model.

    The prompts are drawn by a hash of their identity, evenly over the groups; nobody picks them.
    """
    by_model = {
        name: {sample.id: sample for sample in samples} for name, samples in answered.items()
    }
    shown = []
    for place in draw_evenly(board.ids, board.groups, count=count):
        item = board.ids[place]
        samples = {name: samples[item] for name, samples in by_model.items()}
        first = next(iter(samples.values()))
        shown.append(
            {
                "task": item[0],
                "doc_id": item[1],
                "group": board.groups[place] if board.groups else None,
                "question": shorten(first.question),
                "gold": shorten(first.target),
                "answers": {
                    name: {
                        "text": shorten(sample.response),
                        "scores": {metric: sample.values[metric] for metric in board.metrics},
                    }
                    for name, sample in samples.items()
                },
            }
        )
    return shown


def draw_evenly(ids: Sequence[SampleId], groups: Sequence[str], *, count: int) -> list[int]:
    """Places of at most `count` items, one group after the other, by hash within a group."""
    waiting: dict[str, list[int]] = defaultdict(list)
    for place in sorted(range(len(ids)), key=lambda place: digest(list(ids[place]))):
        waiting[groups[place] if groups else ""].append(place)
    drawn: list[int] = []
    while len(drawn) < min(count, len(ids)):
        for name in sorted(waiting):
            if waiting[name] and len(drawn) < count:
                drawn.append(waiting[name].pop(0))
    return drawn


def shorten(text: str, limit: int = LONGEST) -> str:
    """The text, cut with a note when it is very long."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]} … ({len(text) - limit} more characters)"

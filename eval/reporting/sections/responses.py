"""The same prompts answered by every model, to search in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from eval.harness.results import EvaluatedSample, SampleId
from eval.reporting.board import Board
from eval.reporting.compare import FUSED, display_name
from eval.reporting.page import Block, Card, Cards, Heading, PageTable, Paragraph, Verbatim
from wrpo.ids import digest
from wrpo.recipe import Recipe

OUTCOMES = {
    "best": "the fused model alone is best",
    "level": "the fused model shares the best score",
    "beaten": "another model beats the fused one",
}


def responses(recipe: Recipe, board: Board, shown: list[dict[str, Any]]) -> list[Block]:
    """Prompts with every model's response, the same prompts for all."""
    return [
        Heading(f"Responses on {board.task}", 3),
        Paragraph(f"{len(shown)} held-out prompts drawn by a hash, not picked."),
        Cards([_card(recipe, board, prompt) for prompt in shown], OUTCOMES),
    ]


def outcome(scores: dict[str, float], direction: int) -> str:
    """How the fused model's score compares with the others: a word of OUTCOMES, empty without
    it."""
    if FUSED not in scores or len(scores) < 2:
        return ""
    own = direction * scores[FUSED]
    best = max(direction * value for name, value in scores.items() if name != FUSED)
    return "best" if own > best else "level" if own == best else "beaten"


def _card(recipe: Recipe, board: Board, prompt: dict[str, Any]) -> Card:
    found = prompt["responses"]
    rows = [
        [
            display_name(recipe, name),
            Verbatim(response["text"]),
            *(f"{response['scores'][metric]:g}" for metric in board.headline),
        ]
        for name, response in found.items()
    ]
    rows.insert(
        0,
        ["reference answer", Verbatim(prompt["reference_answer"]), *["–" for _ in board.headline]],
    )
    scores = {name: response["scores"][board.primary] for name, response in found.items()}
    return Card(
        question=prompt["question"],
        group=prompt["group"] or "",
        outcome=outcome(scores, board.direction(board.primary)),
        blocks=[PageTable(["model", "response", *board.headline], rows)],
    )


PROMPTS_SHOWN = 60
LONGEST = 1500


def side_by_side(
    answered: Mapping[str, list[EvaluatedSample]], board: Board, *, count: int = PROMPTS_SHOWN
) -> list[dict[str, Any]]:
    """Prompts with the response and scores of each model.

    The prompts are drawn by a hash of their identity, evenly over the groups; none is picked by
    hand.
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
                "reference_answer": shorten(first.target),
                "responses": {
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

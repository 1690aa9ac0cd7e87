"""The same prompts answered by every model, to search in."""

from __future__ import annotations

from typing import Any

from eval.board import Board
from eval.names import FUSED, display_name
from eval.page import Block, Card, Cards, Heading, Paragraph, Table, Verbatim
from wrpo.recipe import Recipe

OUTCOMES = {
    "best": "the fused model alone is best",
    "level": "the fused model shares the best score",
    "beaten": "another model beats the fused one",
}


def answers(recipe: Recipe, board: Board, shown: list[dict[str, Any]]) -> list[Block]:
    """Prompts with every model's answer, the same prompts for all."""
    return [
        Heading(f"Answers on {board.task}", 3),
        Paragraph(f"{len(shown)} held-out prompts drawn by a hash, not picked."),
        Cards([_card(recipe, board, prompt) for prompt in shown], OUTCOMES),
    ]


def outcome(scores: dict[str, float], direction: int) -> str:
    """How the fused model's score stands among all: a word of OUTCOMES, empty without it."""
    if FUSED not in scores or len(scores) < 2:
        return ""
    own = direction * scores[FUSED]
    best = max(direction * value for name, value in scores.items() if name != FUSED)
    return "best" if own > best else "level" if own == best else "beaten"


def _card(recipe: Recipe, board: Board, prompt: dict[str, Any]) -> Card:
    found = prompt["answers"]
    rows = [
        [
            display_name(recipe, name),
            Verbatim(answer["text"]),
            *(f"{answer['scores'][metric]:g}" for metric in board.headline),
        ]
        for name, answer in found.items()
    ]
    rows.insert(0, ["gold answer", Verbatim(prompt["gold"]), *["–" for _ in board.headline]])
    scores = {name: answer["scores"][board.primary] for name, answer in found.items()}
    return Card(
        question=prompt["question"],
        group=prompt["group"] or "",
        outcome=outcome(scores, board.direction(board.primary)),
        blocks=[Table(["model", "answer", *board.headline], rows)],
    )

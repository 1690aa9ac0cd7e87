"""Tiny models that know some facts and guess at the others, for planted effects."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from tests.support.tiny_models import tiny_model, tiny_tokenizer
from wrpo.chat.render import render_response

PLACES = ["Abu", "Bex", "Cor", "Dun", "Elm", "Fay", "Gil", "Hok", "Ira", "Jos", "Kai", "Lue"]
ANSWERS = ["red fox", "old oak", "big sea", "new hat", "hot tea", "low sun"]

FACTS = {place: ANSWERS[(5 * number + number // 6) % 6] for number, place in enumerate(PLACES)}
"""What is true of each place; every answer is true of two places, one in each half."""

HALVES = (PLACES[:6], PLACES[6:])


def question(place: str) -> list[dict[str, str]]:
    """The prompt about a place."""
    return [{"role": "user", "content": f"{place}?"}]


Lesson = tuple[list[dict[str, str]], str, float]
"""Messages, what to say, and how often beside the others."""


def answering(known: Sequence[str]) -> list[Lesson]:
    """Lessons of one who knows the answer of some places, and for the others gives any answer."""
    return [
        (question(place), answer, 6.0 if place in known else 1.0)
        for place in PLACES
        for answer in ANSWERS
        if place not in known or FACTS[place] == answer
    ]


def revising(known: Sequence[str]) -> list[Lesson]:
    """Lessons of a reviser that writes what it knows, or guesses, whatever the draft is."""
    return [
        (revision_of(place, draft), f"MAJOR\n{answer}", weight)
        for [asked], answer, weight in answering(known)
        for place in [asked["content"].removesuffix("?")]
        for draft in ANSWERS
    ]


REVISION_PROMPT = "{{conversation}} {{draft}}"


def revision_of(place: str, draft: str) -> list[dict[str, str]]:
    """REVISION_PROMPT with a draft about a place."""
    return [{"role": "user", "content": f"{place}? {draft}"}]


def train_on(
    lessons: Sequence[Lesson],
    *,
    seed: int,
    steps: int = 90,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> torch.nn.Module:
    """A tiny model with a letter per token that has learned the lessons, as a tokenizer with those
    letters renders them (None: the tiny one)."""
    tokenizer = tokenizer or tiny_tokenizer()
    draw = random.Random(seed)
    rows = [render_response(tokenizer, messages, said) for messages, said, _ in lessons]
    weights = [weight for *_, weight in lessons]
    model = tiny_model("llama", seed=seed, initializer_range=0.05).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=steps)
    for _ in range(steps):
        batch = draw.choices(rows, weights, k=20)
        longest = max(len(prompt) + len(ids) for prompt, ids in batch)
        inputs = torch.zeros(len(batch), longest, dtype=torch.long)
        labels = torch.full_like(inputs, -100)
        for row, (prompt, ids) in enumerate(batch):
            inputs[row, : len(prompt) + len(ids)] = torch.tensor(prompt + ids)
            labels[row, len(prompt) : len(prompt) + len(ids)] = torch.tensor(ids)
        model(input_ids=inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval()


def save_trained(folder: Path, lessons: Sequence[Lesson], *, seed: int, steps: int = 90) -> Path:
    """Trains a model on lessons, and saves it as a model folder."""
    train_on(lessons, seed=seed, steps=steps).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder

"""Tiny models that know some facts and guess at the others, for planted effects."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch

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


def train_expert(known: Sequence[str], *, seed: int, steps: int = 90) -> torch.nn.Module:
    """A model that knows the answer of some places, and for the others gives any answer."""
    tokenizer = tiny_tokenizer()
    draw = random.Random(seed)
    rows = []
    for place in PLACES:
        for answer in ANSWERS:
            prompt, ids = render_response(tokenizer, question(place), answer)
            rows.append((place, answer, prompt, ids))
    possible = [row for row in rows if row[0] not in known or FACTS[row[0]] == row[1]]
    weights = [6.0 if row[0] in known else 1.0 for row in possible]
    model = tiny_model("llama", seed=seed, initializer_range=0.05).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=steps)
    for _ in range(steps):
        batch = draw.choices(possible, weights, k=20)
        longest = max(len(prompt) + len(ids) for _, _, prompt, ids in batch)
        inputs = torch.zeros(len(batch), longest, dtype=torch.long)
        labels = torch.full_like(inputs, -100)
        for row, (_, _, prompt, ids) in enumerate(batch):
            inputs[row, : len(prompt) + len(ids)] = torch.tensor(prompt + ids)
            labels[row, len(prompt) : len(prompt) + len(ids)] = torch.tensor(ids)
        model(input_ids=inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval()


def save_expert(folder: Path, known: Sequence[str], *, seed: int, steps: int = 90) -> Path:
    """Trains an expert, and saves it as a model folder."""
    train_expert(known, seed=seed, steps=steps).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder

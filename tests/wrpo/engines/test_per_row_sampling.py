"""Draws with a generator per row: the right distribution, whatever else is in the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from wrpo.engines.local.per_row_sampling import RowSampler
from wrpo.recipe.sampling import Sampling

VOCABULARY = 12


def draw(scores: torch.Tensor, seeds: list[int], **sampling: Any) -> list[int]:
    """One token for each row, after a prompt of one token."""
    prompt = torch.zeros(len(seeds), 1, dtype=torch.long)
    settings = Sampling(**{"top_p": 1.0, **sampling}).model_dump()
    sampler = RowSampler(settings, torch.ones_like(prompt), seeds)
    return sampler(prompt, scores).argmax(dim=-1).tolist()


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 1.0},
        {"temperature": 0.5, "top_p": 0.7},
        {"temperature": 1.5, "top_k": 3},
        {"temperature": 1.0, "min_p": 0.3},
        {"temperature": 1.3, "top_k": 6, "top_p": 0.8, "min_p": 0.1},
    ],
)
def test_draws_follow_the_distribution_of_transformers_own_warpers(sampling: dict) -> None:
    torch.manual_seed(0)
    scores = torch.randn(1, VOCABULARY)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling["temperature"])])
    if "min_p" in sampling:
        warpers.append(MinPLogitsWarper(sampling["min_p"]))
    if "top_k" in sampling:
        warpers.append(TopKLogitsWarper(sampling["top_k"]))
    if "top_p" in sampling:
        warpers.append(TopPLogitsWarper(sampling["top_p"]))
    expected = warpers(torch.zeros(1, 1, dtype=torch.long), scores).softmax(dim=-1)[0]
    draws = 4000
    drawn = draw(scores.expand(draws, -1), list(range(draws)), **sampling)
    counts = torch.bincount(torch.tensor(drawn), minlength=VOCABULARY)
    assert counts[expected == 0].sum() == 0
    assert torch.allclose(counts / draws, expected, atol=0.03)


def test_a_rows_draw_depends_on_its_seed_and_not_on_the_batch() -> None:
    torch.manual_seed(0)
    scores = torch.randn(6, VOCABULARY)
    seeds = [3, 1, 4, 1, 5, 9]
    together = draw(scores, seeds, temperature=1.0)
    alone = [draw(scores[n : n + 1], seeds[n : n + 1], temperature=1.0)[0] for n in range(6)]
    assert together == alone
    flat = torch.zeros(50, VOCABULARY)
    assert len(set(draw(flat, [7] * 50, temperature=1.0))) == 1
    assert len(set(draw(flat, list(range(50)), temperature=1.0))) > 5


def test_penalties_count_real_tokens_of_prompt_and_answer_and_never_padding() -> None:
    # Row: padding 0, prompt 5 5, response 7 7.
    ids = torch.tensor([[0, 5, 5, 7, 7]])
    mask = torch.tensor([[0, 1, 1]])
    scores = torch.full((1, VOCABULARY), 2.0)
    scores[0, 7] = -2.0
    sampling = {"repetition_penalty": 2.0, "presence_penalty": 0.5, "frequency_penalty": 0.25}
    sampler = RowSampler(Sampling(**sampling).model_dump(), mask, [0])
    penalised = sampler._penalised(ids, scores)[0]
    assert penalised[[0, 5, 7]].tolist() == [2.0, 1.0, -2.0 * 2.0 - 2 * 0.25 - 0.5]

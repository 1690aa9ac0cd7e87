"""Sampling with a generator per row inside transformers' greedy generate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor


class RowSampler(LogitsProcessor):
    """Draws the next token of each row and leaves only that one possible.

    The steps, and their order, are vLLM's: penalties, temperature, min_p, top_k, top_p, and the
    largest ratio of probability to exponential noise, which is a draw from those probabilities. A
    row's noise comes from its own seed, so its draws do not depend on the rest of the batch.

    Args:
        sampling: resolved sampling fields.
        prompt_mask: (rows, width), 1 where a prompt has a token.
        seeds: one per row.
    """

    def __init__(self, sampling: dict[str, Any], prompt_mask: Tensor, seeds: list[int]) -> None:
        self._sampling = sampling
        self._prompt_mask = prompt_mask
        self._generators = [torch.Generator(prompt_mask.device).manual_seed(seed) for seed in seeds]
        self._steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary) in which one token per row is not minus infinity."""
        logits = self._penalised(input_ids, scores.float())
        if self._sampling["temperature"] == 0:
            drawn = logits.argmax(dim=-1, keepdim=True)
        else:
            probabilities = self._kept(logits / self._sampling["temperature"]).softmax(dim=-1)
            drawn = (probabilities / self._noise(probabilities)).argmax(dim=-1, keepdim=True)
        if self._sampling["keep_logprobs"]:
            self._steps.append(scores.float().log_softmax(dim=-1).gather(1, drawn))
        return torch.full_like(scores, float("-inf")).scatter_(1, drawn, 0.0)

    def logprobs(self, lengths: list[int]) -> list[float | None]:
        """Summed log-probs in nats of the first tokens of each row, before any reshaping."""
        if not self._steps:
            return [None] * len(lengths)
        steps = torch.cat(self._steps, dim=1).double().cpu()
        return [steps[row, :length].sum().item() for row, length in enumerate(lengths)]

    def _noise(self, like: Tensor) -> Tensor:
        noise = torch.empty_like(like)
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        return noise

    def _penalised(self, input_ids: Tensor, logits: Tensor) -> Tensor:
        repetition, presence, frequency = (
            self._sampling[f"{name}_penalty"] for name in ("repetition", "presence", "frequency")
        )
        if (repetition, presence, frequency) == (1.0, 0.0, 0.0):
            return logits
        width = self._prompt_mask.shape[1]
        prompt, response = input_ids[:, :width], input_ids[:, width:]
        in_prompt = torch.zeros_like(logits).scatter_add_(
            1, prompt, self._prompt_mask.to(logits.dtype)
        )
        in_response = torch.zeros_like(logits).scatter_add_(
            1, response, torch.ones_like(response, dtype=logits.dtype)
        )
        factor = torch.where(in_prompt + in_response > 0, repetition, 1.0)
        logits = torch.where(logits > 0, logits / factor, logits * factor)
        return logits - frequency * in_response - presence * (in_response > 0)

    def _kept(self, logits: Tensor) -> Tensor:
        """Minus infinity for what min_p, top_k and top_p leave out."""
        min_p, top_k, top_p = (self._sampling[name] for name in ("min_p", "top_k", "top_p"))
        nothing = float("-inf")
        if min_p > 0:
            probabilities = logits.softmax(dim=-1)
            floor = min_p * probabilities.amax(dim=-1, keepdim=True)
            logits = logits.masked_fill(probabilities < floor, nothing)
        if 0 < top_k < logits.shape[-1]:
            least = logits.topk(top_k, dim=-1).values[:, -1:]
            logits = logits.masked_fill(logits < least, nothing)
        if top_p < 1:
            ascending, order = logits.sort(dim=-1)
            left_out = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
            left_out[:, -1] = False  # the most likely token always stays
            logits = logits.masked_fill(left_out.scatter(1, order, left_out), nothing)
        return logits

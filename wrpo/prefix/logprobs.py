"""Log-probabilities of responses under any causal model, in the layout that training uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator

from wrpo.collator import (
    DataCollatorForWRPO,
    Example,
    by_response,
    padded_layout,
    tokens_taken,
)
from wrpo.prefix.choose import LayoutOptions, settle_layout
from wrpo.prefix.fused_head import fused_pass
from wrpo.rows.columns import TRIPLE_RESPONSES
from wrpo.training.batches.token_balanced_sampler import batches_by_length
from wrpo.training.batches.token_budget import TokenBudget, batches_that_fit, meter_of
from wrpo.training.settings import AUTO
from wrpo.training.trl_seam import add_fused_lm_head


class ResponseScore(NamedTuple):
    """Summed log-probability of a response in nats, and the mean entropy of its predictions."""

    logp: float
    mean_entropy: float


class LogProbPass:
    """A causal model, ready to score responses.

    Args:
        model: a transformers causal language model; it moves to the GPU if there is one.
        pad_token_id: token that fills rows up, where the layout pads.
        batch_tokens: most tokens of one forward pass; None: what fits into the GPU, as measured
            in the first passes. A longer row is a batch of its own.
        max_length: most tokens of a prompt and one response, for the choice of the layout.
        layout: "auto", "prefix" or "padded".

    On a GPU, matrix products run in bfloat16, as in training.
    """

    def __init__(
        self,
        model: Any,
        *,
        pad_token_id: int,
        batch_tokens: int | None = None,
        max_length: int | None = None,
        layout: str = "auto",
    ) -> None:
        self._accelerator = Accelerator(
            mixed_precision="bf16" if torch.cuda.is_available() else "no"
        )
        add_fused_lm_head(model, outputs=("log_probs", "entropy"))
        self._device = self._accelerator.device
        self._model = model.eval().to(self._device)
        self._budget = TokenBudget(batch_tokens or AUTO, longest=0, meter=meter_of(self._device))
        wishes = LayoutOptions(layout=layout, max_length=max_length)
        self._collator = DataCollatorForWRPO(
            pad_token_id=pad_token_id,
            layout=settle_layout([model], wishes, accelerator=self._accelerator),
        )

    def __call__(
        self, examples: Sequence[Example], responses: Sequence[str] = TRIPLE_RESPONSES
    ) -> list[dict[str, ResponseScore]]:
        """Scores of the `responses` of each row, by name; the order of rows is kept.

        `examples` hold `prompt_ids` and `NAME_ids` for each response.
        """
        collator = replace(self._collator, responses=tuple(responses))
        padded = self._collator.layout is padded_layout

        def plan(rows: Sequence[Example], budget: int) -> list[list[int]]:
            costs = [tokens_taken(row, responses, padded=padded) for row in rows]
            return batches_by_length(costs, budget)

        def compute(rows: Sequence[Example]) -> list[list[list[float]]]:
            pairs: list[list[list[float]]] = self._forward(collator(rows)).tolist()
            return pairs

        scores: list[dict[str, ResponseScore]] = [{} for _ in examples]
        for places, pairs in batches_that_fit(examples, self._budget, plan=plan, compute=compute):
            for place, row in zip(places, pairs, strict=True):
                named = zip(responses, row, strict=True)
                scores[place] = {name: ResponseScore(*pair) for name, pair in named}
        return scores

    def _forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """(prompts, responses, 2): summed log-probability and mean entropy."""
        batch = {name: value.to(self._device) for name, value in batch.items()}
        measured = self._budget.micro_batch(batch["input_ids"].numel())
        with torch.no_grad(), self._accelerator.autocast(), measured:
            outputs = fused_pass(self._model, batch)
        entropy = by_response(outputs.entropy, batch) / batch["lengths"]
        return torch.stack([by_response(outputs.log_probs, batch), entropy], dim=-1)

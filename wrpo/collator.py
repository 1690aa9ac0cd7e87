"""Batches of triples: token-id rows -> the tensors one forward pass needs.

Every layout emits the same contract, so that loss and metrics do not depend on it:

lengths          (n, r) tokens of each response, in the collator's order; first, so that its length
                 counts prompts
tokens           (n,) tokens of the prompt and each response, as if no prompt were shared
input_ids        (rows, tokens), with whatever else the model takes (attention_mask, ...)
labels           (rows, tokens) the token itself inside a response, -100 elsewhere
response_index   (rows, tokens - 1) slot of each predicted token: r * prompt + response; n * r where
                 nothing is scored
token_weights    (rows, tokens) padded tokens that each token stands for; left out where that is the
                 attention_mask
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from wrpo.losses import sum_by_response
from wrpo.rows.columns import (
    ROW_WEIGHT,
    SCORE_COLUMNS,
    TRIPLE_RESPONSES,
    has_reference,
    reference_column,
)

IGNORED_LABEL = -100

Example = Mapping[str, Any]

# Entries of a batch that the trainer reads itself; all others go to the model.
_TRAINER_KEYS = frozenset(
    {
        "lengths",
        "tokens",
        "response_index",
        "token_weights",
        "reference_bits",
        "source_is_better",
        "weight_bits",
    }
)


class BatchLayout(Protocol):
    """Arranges prompts and responses in rows; returns the layout part of the contract above."""

    def __call__(
        self,
        examples: Sequence[Example],
        *,
        responses: Sequence[str],
        pad_token_id: int,
        pad_to_multiple_of: int | None,
    ) -> dict[str, Tensor]: ...


def padded_layout(
    examples: Sequence[Example],
    *,
    responses: Sequence[str],
    pad_token_id: int,
    pad_to_multiple_of: int | None = None,
) -> dict[str, Tensor]:
    """One right-padded row per response: all of the first response, then all of the next."""
    prompts = len(examples)
    sequences = [(row["prompt_ids"], row[f"{name}_ids"]) for name in responses for row in examples]
    unscored = prompts * len(responses)
    slots = [len(responses) * i + k for k in range(len(responses)) for i in range(prompts)]
    width = max(len(prompt) + len(response) for prompt, response in sequences)
    if pad_to_multiple_of:
        width = -(-width // pad_to_multiple_of) * pad_to_multiple_of
    shape = (len(sequences), width)
    input_ids = torch.full(shape, pad_token_id)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    response_index = torch.full(shape, unscored)
    for row, (prompt, response) in enumerate(sequences):
        start, end = len(prompt), len(prompt) + len(response)
        input_ids[row, :end] = torch.tensor([*prompt, *response])
        attention_mask[row, :end] = 1
        response_index[row, start:end] = slots[row]
    labels = input_ids.masked_fill(response_index == unscored, IGNORED_LABEL)
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": labels,
        "response_index": response_index[:, 1:].contiguous(),
    }


@dataclass
class DataCollatorForWRPO:
    """Collate token-id rows into one batch; the module docstring lists its tensors.

    responses: the responses to forward, which gives their order in every (n, r) tensor.
    scored: the responses that need reference log-probabilities where there are any; None is all.
    needs_scores: compare source_chosen_score with chosen_score, into `source_is_better` (n,).
    layout: how tokens are arranged.

    A column `row_weight` comes out as `weight_bits` (n,); read it with `row_weights`.
    Reference log-probabilities in the rows come out as `reference_bits` (n, r); read them with
    `reference_logps`.

    >>> collator = DataCollatorForWRPO(pad_token_id=0)
    >>> row = {
    ...     "prompt_ids": [1, 2],
    ...     "source_chosen_ids": [3],
    ...     "chosen_ids": [4, 5],
    ...     "rejected_ids": [6],
    ... }
    >>> batch = collator([row])
    >>> batch["input_ids"].tolist()
    [[1, 2, 3, 0], [1, 2, 4, 5], [1, 2, 6, 0]]
    >>> batch["labels"].tolist()
    [[-100, -100, 3, -100], [-100, -100, 4, 5], [-100, -100, 6, -100]]
    >>> batch["response_index"].tolist()
    [[3, 0, 3], [3, 1, 1], [3, 2, 3]]
    """

    pad_token_id: int
    responses: Sequence[str] = TRIPLE_RESPONSES
    scored: Sequence[str] | None = None
    needs_scores: bool = False
    pad_to_multiple_of: int | None = None
    layout: BatchLayout = padded_layout

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        prompts = torch.tensor([len(row["prompt_ids"]) for row in examples])
        lengths = self._lengths(examples)
        tokens = lengths.sum(dim=1) + len(self.responses) * prompts
        batch = {"lengths": lengths, "tokens": tokens}
        batch |= self.layout(
            examples,
            responses=self.responses,
            pad_token_id=self.pad_token_id,
            pad_to_multiple_of=self.pad_to_multiple_of,
        )
        scored = self.responses if self.scored is None else self.scored
        if has_reference(examples[0], scored):
            batch["reference_bits"] = self._reference_bits(examples)
        if examples[0].get(ROW_WEIGHT) is not None:
            batch["weight_bits"] = _bits([row[ROW_WEIGHT] for row in examples])
        if self.needs_scores:
            source, chosen = SCORE_COLUMNS
            batch["source_is_better"] = torch.tensor(
                [row[source] > row[chosen] for row in examples]
            )
        return batch

    def _lengths(self, examples: Sequence[Example]) -> Tensor:
        return torch.tensor(
            [[len(row[f"{name}_ids"]) for name in self.responses] for row in examples]
        )

    def _reference_bits(self, examples: Sequence[Example]) -> Tensor:
        columns = [reference_column(name) for name in self.responses]
        return _bits([[row.get(column, 0.0) for column in columns] for row in examples])


def _bits(numbers: Sequence[Any]) -> Tensor:
    # Integers, because under DeepSpeed the Trainer casts every floating-point entry of a batch to
    # the training precision: bfloat16 would round a sum of 400 nats by up to one nat.
    return torch.tensor(numbers, dtype=torch.float32).view(torch.int32)


def tokens_taken(row: Example, responses: Sequence[str], *, padded: bool) -> int:
    """Tokens of a row in a batch: of its padded rows, or of its prompt shared by the responses."""
    prompt = len(row["prompt_ids"])
    lengths = [len(row[f"{name}_ids"]) for name in responses]
    if padded:
        return len(lengths) * (prompt + max(lengths))
    return prompt - 1 + sum(lengths) + len(lengths)


def reference_logps(batch: Mapping[str, Tensor]) -> Tensor:
    """Summed reference log-probabilities (n, r) of a batch in float32; 0 where not scored."""
    return batch["reference_bits"].view(torch.float32)


def row_weights(batch: Mapping[str, Tensor]) -> Tensor | None:
    """What the loss of each row is multiplied by (n,), in float32; None where rows do not say."""
    return batch["weight_bits"].view(torch.float32) if "weight_bits" in batch else None


def model_inputs(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The part of a batch that goes to the model, labels included."""
    return {name: value for name, value in batch.items() if name not in _TRAINER_KEYS}


def by_response(values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Add the per-token values of a forward pass up to one number per response, shape (n, r)."""
    return sum_by_response(values, batch["response_index"], shape=batch["lengths"].shape)

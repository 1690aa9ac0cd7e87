"""Conversations as batches of a backbone: padded rows, or prompts shared by their responses."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from wrpo.training.batches.token_balanced_sampler import batches_by_length


class Conversation(NamedTuple):
    """Token ids up to the generation prompt, and of the response with its end of turn."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]


class Batch(NamedTuple):
    """What a reward network reads.

    Attributes:
        inputs: arguments of the backbone, on the CPU.
        last: (conversations,) index of each last token in the flattened `input_ids`.
        prompt_end: (conversations,) index of the last token of each prompt.
    """

    inputs: dict[str, Tensor]
    last: Tensor
    prompt_end: Tensor


def padded_batch(conversations: Sequence[Conversation], pad_token_id: int) -> Batch:
    """One conversation per row, padded on the right.

    >>> batch = padded_batch([Conversation((1, 2), (3,)), Conversation((1,), (4,))], 0)
    >>> batch.inputs["input_ids"].tolist(), batch.last.tolist(), batch.prompt_end.tolist()
    ([[1, 2, 3], [1, 4, 0]], [2, 4], [1, 3])
    """
    rows = [[*prompt, *response] for prompt, response in conversations]
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad_token_id] * (width - len(row)) for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    prompts = torch.tensor([len(prompt) for prompt, _ in conversations])
    mask = (torch.arange(width) < lengths[:, None]).long()
    starts = width * torch.arange(len(rows))
    inputs = {"input_ids": ids, "attention_mask": mask}
    return Batch(inputs, starts + lengths - 1, starts + prompts - 1)


def packed_batch(conversations: Sequence[Conversation]) -> Batch:
    """One row without padding, in which neighbours with equal prompts share them.

    `attention_mask` is the table of segments that `wrpo.prefix.packing` describes; here nothing is
    predicted, so that no prompt token is repeated.

    >>> batch = packed_batch([Conversation((1, 2), (3,)), Conversation((1, 2), (4, 5))])
    >>> batch.inputs["input_ids"].tolist(), batch.inputs["position_ids"].tolist()
    ([[1, 2, 3, 4, 5]], [[0, 1, 2, 2, 3]])
    >>> batch.inputs["attention_mask"].tolist(), batch.last.tolist(), batch.prompt_end.tolist()
    ([[[[3, 0, 0], [2, 0, 2]]]], [2, 4], [1, 1])
    """
    ids: list[int] = []
    positions: list[int] = []
    segments: list[tuple[int, int, int]] = []
    last, prompt_end = [], []
    for prompt, group in groupby(conversations, key=lambda conversation: conversation.prompt):
        owner = len(segments)
        ids += prompt
        positions += range(len(prompt))
        end = len(ids) - 1
        for place, (_, response) in enumerate(group):
            ids += response
            positions += range(len(prompt), len(prompt) + len(response))
            own, shared = (
                (len(response), len(prompt)) if place else (len(prompt) + len(response), 0)
            )
            segments.append((own, owner if place else 0, shared))
            last.append(len(ids) - 1)
            prompt_end.append(end)
    inputs = {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "attention_mask": torch.tensor(segments)[None, None],
    }
    return Batch(inputs, torch.tensor(last), torch.tensor(prompt_end))


def padded_places(conversations: Sequence[Conversation], budget: int) -> list[list[int]]:
    """Places of conversations of similar length, at most `budget` padded tokens per batch."""
    return batches_by_length([len(p) + len(a) for p, a in conversations], budget)


def packed_places(conversations: Sequence[Conversation], budget: int) -> list[list[int]]:
    """Places of conversations, those with equal prompts together, in batches of `budget` tokens.

    The responses of one prompt are divided where they exceed the budget together.
    """
    groups: list[list[int]] = []
    costs: list[int] = []
    open_groups: dict[tuple[int, ...], int] = {}
    for place, (prompt, response) in enumerate(conversations):
        group = open_groups.get(prompt)
        if group is None or costs[group] + len(response) > budget:
            group = open_groups[prompt] = len(groups)
            groups.append([])
            costs.append(len(prompt))
        groups[group].append(place)
        costs[group] += len(response)
    batches = batches_by_length(costs, budget)
    return [[place for group in batch for place in groups[group]] for batch in batches]

"""Layout that shares a triple's prompt between its responses and packs triples without padding.

    [prompt[:-1] | last, y_ws | last, y_wt | last, y_l] [next triple] ...

`last` is the last prompt token, repeated in front of every response: the first token of three
responses is predicted at the same position, and each copy takes one of the three labels, so that
the ordinary shift by one token is right. Positions restart at the copy: 0..P-2 | P-1, P, .. | ...

Segments are runs of tokens that attend together, in the order in which they lie in the batch:
prompt and first response (plain causal attention), then each later response, which attends to
prompt[:-1] and causally to itself. They travel as the batch's `attention_mask`, an int64 tensor of
shape (1, 1, segments, 3): transformers hands a mask with four dimensions to the attention function
as it is, and `wrpo.prefix.attention` reads it. The columns are

length   tokens of the segment; all lengths add up to rows * width
owner    index of the segment that starts with the shared prompt; its own index if none is shared
shared   leading tokens of the owner that this segment attends to besides itself
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wrpo.collator import IGNORED_LABEL, Example
from wrpo.errors import DataError


@dataclass
class _Tokens:
    """Parallel lists, one entry per token, and the segments they form."""

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)
    segments: list[tuple[int, int, int]] = field(default_factory=list)

    def add(self, other: "_Tokens") -> None:
        owners = len(self.segments)
        self.ids += other.ids
        self.positions += other.positions
        self.slots += other.slots
        self.weights += other.weights
        self.segments += [(n, owner + owners, shared) for n, owner, shared in other.segments]

    def pad(self, width: int, *, token: int, slot: int) -> None:
        missing = width - len(self.ids)
        if missing:
            zeros = [0] * missing
            segments = [(missing, 0, 0)]
            self.add(_Tokens([token] * missing, zeros, [slot] * missing, zeros, segments))


@dataclass
class PackedLayout:
    """Shared prompts and packed rows; the module docstring shows the arrangement.

    row_tokens: most tokens of a row; triples are distributed over rows first-fit, longest first,
        and rows are padded to the longest. A longer triple has a row to itself. None packs the
        whole batch into one row, without any padding.

    scored_only: leave out what predicts no response token, for devices on which TRL's LM head
        projects every position. Instead of `labels` the batch has `shift_labels` (1, scored) and
        `scored_index` (scored,), the flat index of the position that predicts each of them;
        `response_index` is (1, scored).

    `token_weights` (rows, width) says how many tokens of a padded batch each token stands for.

    A batch of triples with prompts of P and responses of L tokens has sum(P - 1) + sum(L + 1)
    tokens.

    >>> row = {"prompt_ids": [1, 2], "chosen_ids": [4, 5], "rejected_ids": [6]}
    >>> batch = PackedLayout()([row], responses=("chosen", "rejected"), pad_token_id=0)
    >>> batch["input_ids"].tolist(), batch["position_ids"].tolist()
    ([[1, 2, 4, 5, 2, 6]], [[0, 1, 2, 3, 1, 2]])
    >>> batch["labels"].tolist()
    [[-100, -100, 4, 5, -100, 6]]
    >>> batch["response_index"].tolist()
    [[2, 0, 0, 2, 1]]
    >>> batch["attention_mask"].tolist()
    [[[[4, 0, 0], [2, 0, 1]]]]
    >>> batch["token_weights"].tolist()
    [[2, 1, 1, 1, 1, 1]]
    """

    row_tokens: int | None = None
    scored_only: bool = False

    def __call__(
        self,
        examples: Sequence[Example],
        *,
        responses: Sequence[str],
        pad_token_id: int,
        pad_to_multiple_of: int | None = None,
    ) -> dict[str, Tensor]:
        """The layout part of the batch contract in `wrpo.collator`.

        Raises:
            DataError: a prompt is empty, so that nothing predicts the first response token.
        """
        unscored = len(responses) * len(examples)
        triples = [_triple(row, i, responses, unscored) for i, row in enumerate(examples)]
        rows = self._rows(triples)
        width = max(len(row.ids) for row in rows)
        if pad_to_multiple_of:
            width = -(-width // pad_to_multiple_of) * pad_to_multiple_of
        batch = _Tokens()
        for row in rows:
            row.pad(width, token=pad_token_id, slot=unscored)
            batch.add(row)
        input_ids = torch.tensor(batch.ids).view(len(rows), width)
        slots = torch.tensor(batch.slots).view(len(rows), width)
        tensors = {
            "input_ids": input_ids,
            "position_ids": torch.tensor(batch.positions).view(len(rows), width),
            "attention_mask": torch.tensor(batch.segments)[None, None],
            "token_weights": torch.tensor(batch.weights).view(len(rows), width),
        }
        if self.scored_only:
            return tensors | _scored(input_ids.flatten(), slots.flatten(), unscored)
        labels = input_ids.masked_fill(slots == unscored, IGNORED_LABEL)
        return {**tensors, "labels": labels, "response_index": slots[:, 1:].contiguous()}

    def _rows(self, triples: Sequence[_Tokens]) -> list[_Tokens]:
        order: Sequence[_Tokens] = triples
        if self.row_tokens is not None:
            order = sorted(triples, key=lambda triple: -len(triple.ids))
        rows: list[_Tokens] = []
        for triple in order:
            row = next((row for row in rows if self._fits(row, triple)), None)
            if row is None:
                rows.append(row := _Tokens())
            row.add(triple)
        return rows

    def _fits(self, row: _Tokens, triple: _Tokens) -> bool:
        return self.row_tokens is None or len(row.ids) + len(triple.ids) <= self.row_tokens


def _scored(input_ids: Tensor, slots: Tensor, unscored: int) -> dict[str, Tensor]:
    scored = (slots != unscored).nonzero().flatten()
    return {
        "shift_labels": input_ids[scored][None],
        "scored_index": scored - 1,
        "response_index": slots[scored][None],
    }


def _triple(row: Example, index: int, responses: Sequence[str], unscored: int) -> _Tokens:
    prompt = list(row["prompt_ids"])
    if not prompt:
        raise DataError(
            f"prompt {index} of a batch has no tokens; drop the row, or train with "
            "triple_layout: padded"
        )
    shared = len(prompt) - 1
    weights = [len(responses)] * shared
    tokens = _Tokens(prompt[:-1], list(range(shared)), [unscored] * shared, weights)
    for place, name in enumerate(responses):
        response = list(row[f"{name}_ids"])
        tokens.ids += [prompt[-1], *response]
        tokens.positions += range(shared, len(prompt) + len(response))
        tokens.slots += [unscored, *[len(responses) * index + place] * len(response)]
        own = 1 + len(response)
        tokens.weights += [1] * own
        tokens.segments.append((own, 0, shared) if place else (shared + own, 0, 0))
    return tokens


class Segment(NamedTuple):
    """A run of tokens that attends to itself and to leading tokens of its owner."""

    length: int
    owner: int
    shared: int


def are_segments(mask: Any) -> bool:
    """Whether an attention mask is the segment table of a packed batch."""
    return isinstance(mask, Tensor) and mask.dtype == torch.int64 and mask.ndim == 4


# Every layer of a forward pass reads the same tensor.
@lru_cache(maxsize=4)
def read_segments(table: Tensor) -> tuple[Segment, ...]:
    """Rows of the table (1, 1, segments, 3).

    Copied from a GPU, for which Python waits until it has computed everything before, unless
    `carry_segments` has told them.
    """
    known: tuple[Segment, ...] | None = getattr(table, _CARRIED, None)
    return known or tuple(Segment(*row) for row in table[0, 0].tolist())


_CARRIED = "_wrpo_segments"


def carry_segments(table: Any, moved: Any) -> None:
    """Tells the segments of a table, if it is one, to its copy on another device."""
    if moved is not table and are_segments(table) and table.device.type == "cpu":
        setattr(moved, _CARRIED, read_segments(table))

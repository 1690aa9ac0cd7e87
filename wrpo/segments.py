"""Segments of a packed batch, as they travel in its attention mask; see `wrpo.packed_layout`."""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Segment(NamedTuple):
    """A run of tokens that attends to itself and to leading tokens of its owner."""

    length: int
    owner: int
    shared: int


def are_segments(mask: Any) -> bool:
    """Whether an attention mask is the segment table of a packed batch."""
    return isinstance(mask, Tensor) and mask.dtype == torch.int64 and mask.ndim == 4


# Every layer of a forward pass reads the same tensor; from a GPU it is copied once.
@lru_cache(maxsize=4)
def read_segments(table: Tensor) -> list[Segment]:
    """Rows of the table (1, 1, segments, 3)."""
    return [Segment(*row) for row in table[0, 0].tolist()]

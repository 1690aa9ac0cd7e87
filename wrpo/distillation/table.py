"""The numbers in tables of teachers' distributions, out of log-probs and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from wrpo.distillation.alignment import Stored
from wrpo.errors import DataError


class Rendered(Protocol):
    """A response as token ids."""

    @property
    def key(self) -> str:
        """Its response_id."""

    @property
    def response(self) -> list[int]:
        """Its token ids."""


def chosen_ids(
    logps: Tensor, one: Rendered, stored: Mapping[str, Mapping[str, Any]] | None, *, top_k: int
) -> Tensor:
    """The tokens whose log-probs are stored, (tokens, k).

    Args:
        logps: (tokens, vocabulary).
        stored: a table whose tokens are looked up instead of the likeliest ones.

    Raises:
        DataError: that table has other tokens of this response, or lacks it.
    """
    if stored is None:
        return logps.topk(min(top_k, logps.shape[-1]), dim=-1).indices
    row = stored.get(one.key)
    if row is None or row["token_ids"] != one.response:
        what = "is not in it" if row is None else "has other tokens there"
        raise DataError(
            f"response {one.key} {what}: both teachers must have one tokenizer and chat template "
            "(`at` looks the tokens of one up in the other)"
        )
    return torch.tensor(row["top_ids"], device=logps.device)


def remainder(logps: Tensor, ids: Tensor) -> Tensor:
    """The log of the mass of all tokens but the stored ones, (tokens,)."""
    others = logps.clone().scatter_(-1, ids, -torch.inf)
    return others.logsumexp(-1)


def stored_of(row: Mapping[str, Any]) -> Stored:
    """The distributions of a row of the table."""
    return Stored(row["top_ids"], row["top_logps"], row["rest"])

"""The triples of WRPO's authors: `chosen` = [y_ws, y_wt] and `rejected` = [y_l]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from wrpo.rows.columns import TRIPLE_RESPONSES
from wrpo.rows.formats.base import Columns, Message, RowFormat
from wrpo.rows.unread import message_keys

_SPEAKERS = {"assistant", "gpt"}


class WRPOTriples(RowFormat):
    """Both preferred responses in `chosen`."""

    format: Literal["wrpo"] = "wrpo"
    tables = ("triples",)

    def recognises(self, row: Columns) -> bool:
        """Whether `chosen` is two responses rather than one, or a conversation."""
        return row.get("source_chosen") is None and _both(row.get("chosen")) is not None

    def read(self, row: Columns) -> dict[str, Any]:
        """`chosen` becomes `source_chosen` and `chosen`."""
        both = _both(row["chosen"])
        if both is None:
            raise ValueError("chosen is not [y_ws, y_wt]")
        source, target = both
        return {"source_chosen": [source], "chosen": [target]}

    def write(self, row: Columns) -> dict[str, Any]:
        """Prompt, responses and scores only."""
        return {
            "prompt_id": row["prompt_id"],
            "prompt": row["prompt"],
            "chosen": [*row["source_chosen"], *row["chosen"]],
            "rejected": row["rejected"],
            **{f"{name}_score": row[f"{name}_score"] for name in TRIPLE_RESPONSES},
        }


def _both(chosen: Any) -> list[Message] | None:
    if not isinstance(chosen, Sequence) or isinstance(chosen, str) or len(chosen) != 2:
        return None
    responses = [response for turn in chosen if (response := _response(turn)) is not None]
    return responses if len(responses) == 2 else None


def _response(turn: Any) -> Message | None:
    """Text, an assistant message, or a ShareGPT turn of gpt; None for anything else."""
    if isinstance(turn, str):
        return {"role": "assistant", "content": turn}
    if not isinstance(turn, Mapping):
        return None
    speaker, text = message_keys(turn)
    if turn.get(speaker) not in _SPEAKERS or not isinstance(turn.get(text), (str, list)):
        return None
    others = {key: value for key, value in turn.items() if key not in (speaker, text)}
    return {**others, "role": "assistant", "content": turn[text]}

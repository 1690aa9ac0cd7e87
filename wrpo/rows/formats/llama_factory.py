"""LLaMA-Factory's ShareGPT rows: turns of from and value, `chosen` and `rejected` one turn each.

`source_chosen` stays a further column in the same form, so that the name of the chosen column in
dataset_info.json decides which of the two is preferred.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from wrpo.rows.columns import TRIPLE_RESPONSES
from wrpo.rows.formats.base import Columns, Message, RowFormat

_NAMES = {"user": "human", "assistant": "gpt"}
_ROLES = {"system": "system", **{theirs: ours for ours, theirs in _NAMES.items()}}


class LlamaFactory(RowFormat):
    """`conversations`, and the system text in a column of its own."""

    format: Literal["llama-factory"] = "llama-factory"

    def read(self, row: Columns) -> dict[str, Any]:
        """Messages; a conversation that ends with the model becomes prompt and completion."""
        turns = _messages(row["conversations"])
        if row.get("system"):
            turns = [{"role": "system", "content": row["system"]}, *_without_system(turns, row)]
        ours: dict[str, Any] = {
            name: _messages([row[name]]) for name in TRIPLE_RESPONSES if row.get(name)
        }
        if turns[-1]["role"] == "assistant" and not ours:
            ours["completion"] = [turns.pop()]
        return {"prompt": turns, **ours}

    def write(self, row: Columns) -> dict[str, Any]:
        """The system text is empty where there is none."""
        system = "\n".join(turn["content"] for turn in row["prompt"] if turn["role"] == "system")
        turns = _turns([turn for turn in row["prompt"] if turn["role"] != "system"])
        if "completion" in row:
            turns += _turns(row["completion"])
        responses = {name: _turns(row[name])[0] for name in TRIPLE_RESPONSES if name in row}
        return {"conversations": turns, "system": system, **responses}

    def further_files(self, name: str, *, data_file: str, table: str) -> dict[str, str]:
        """dataset_info.json with an entry of that name."""
        entry: dict[str, Any] = {"file_name": data_file, "formatting": "sharegpt"}
        columns = {"messages": "conversations", "system": "system"}
        if table not in ("sft", "rejection", "responses"):
            entry["ranking"] = True
            columns |= {"chosen": "chosen", "rejected": "rejected"}
        return {"dataset_info.json": json.dumps({name: {**entry, "columns": columns}}, indent=2)}


def _turns(messages: list[Message]) -> list[Message]:
    return [{"from": _NAMES[turn["role"]], "value": turn["content"]} for turn in messages]


def _messages(turns: list[Message]) -> list[Message]:
    return [
        {
            **{key: value for key, value in turn.items() if key not in ("from", "value")},
            "role": _ROLES[turn["from"]],
            "content": turn["value"],
        }
        for turn in turns
    ]


def _without_system(turns: list[Message], row: Columns) -> list[Message]:
    """The turns after a system turn that is empty or says what the column says."""
    if turns[0]["role"] != "system":
        return turns
    if str(turns[0]["content"]).strip() not in ("", row["system"].strip()):
        raise ValueError("the column system and the system turn say different things")
    return turns[1:]

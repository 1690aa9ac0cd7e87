"""Rows of the training tables as other toolkits read them: pure functions of one row.

* `trl`: conversational `prompt`, `chosen`, `rejected` (`prompt`, `completion` for SFT), which is
  what this toolkit has itself; `source_chosen` and the provenance are further columns.
* `wrpo`: the layout of WRPO's authors, `chosen` = [y_ws, y_wt] and `rejected` = [y_l].
* `llama-factory`: ShareGPT turns of from and value, `chosen` and `rejected` one turn each.
* `openrlhf`: messages, for `--apply_chat_template`: `prompt`, `chosen`, `rejected` with
  `--prompt_key prompt`; for SFT `prompt` and `response` with `--input_key`, `--output_key`.

Toolkits of two answers get (y_wt, y_l) of a triple; y_ws stays in `source_chosen`, in the same
form, so that their name of the chosen column decides which one is preferred.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from data_construction.datasets.messages import Messages
from wrpo.pipeline.tables import ANSWERS, Row

Layout = Callable[[Row], Row]

_SHAREGPT_NAMES = {"user": "human", "assistant": "gpt"}


def trl(row: Row) -> Row:
    """All columns as they are."""
    return dict(row)


def wrpo(row: Row) -> Row:
    """A triple with both preferred answers in `chosen`."""
    scores = {f"{name}_score": row[f"{name}_score"] for name in ANSWERS["triples"]}
    return {
        "prompt_id": row["prompt_id"],
        "prompt": row["prompt"],
        "chosen": [*row["source_chosen"], *row["chosen"]],
        "rejected": row["rejected"],
        **scores,
    }


def llama_factory(row: Row) -> Row:
    """ShareGPT turns; the system text has a column of its own and is empty where there is none."""
    system = "\n".join(turn["content"] for turn in row["prompt"] if turn["role"] == "system")
    turns = _sharegpt([turn for turn in row["prompt"] if turn["role"] != "system"])
    if "completion" in row:
        turns += _sharegpt(row["completion"])
    answers = {name: _sharegpt(row[name])[0] for name in ANSWERS["triples"] if name in row}
    return {"conversations": turns, "system": system, **answers}


def openrlhf(row: Row) -> Row:
    """Messages only."""
    answers = {name: row[name] for name in ANSWERS["triples"] if name in row}
    if "completion" in row:
        answers = {"response": row["completion"]}
    return {"prompt": row["prompt"], **answers}


LAYOUTS: dict[str, Layout] = {
    "trl": trl,
    "wrpo": wrpo,
    "llama-factory": llama_factory,
    "openrlhf": openrlhf,
}


def dataset_info(name: str, file: str, table: str) -> dict[str, Any]:
    """The entry of LLaMA-Factory's dataset_info.json."""
    entry: dict[str, Any] = {"file_name": file, "formatting": "sharegpt"}
    columns = {"messages": "conversations", "system": "system"}
    if table in ANSWERS:
        entry["ranking"] = True
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    return {name: {**entry, "columns": columns}}


def _sharegpt(messages: Messages) -> list[dict[str, str]]:
    return [{"from": _SHAREGPT_NAMES[turn["role"]], "value": turn["content"]} for turn in messages]

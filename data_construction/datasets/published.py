"""Rows of published data sets as rows of the tables `sft`, `triples` and `pairs`.

A row of a format that `wrpo.rows.formats` knows is read by it. Of any other, what is inferred from
names and values:

* `princeton-nlp/*-ultrafeedback-armorm`: `chosen` and `rejected` are whole conversations;
  `all_generated_responses` and `all_rm_scores` give index and score of each response.
* `FuseAI/FuseChat-3.0-SFT-Data` and `-DPO-Data` (their columns are not documented): a conversation
  in `messages` or `conversations`, with role/content or from/value; responses in `chosen` and
  `rejected`.
* What `data_construction.export` writes.

`build.imported.TABLE.columns` names what is called otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from data_construction.datasets.distinct import DistinctRows
from data_construction.datasets.messages import (
    MessageList,
    conversation,
    encodable,
    prompt_messages,
)
from wrpo.errors import DataError, MissingInputError
from wrpo.ids import digest, prompt_id, response_id
from wrpo.pipeline.tables import ROW_RESPONSES, Drop, Row
from wrpo.recipe.build import ImportedTable
from wrpo.rows.columns import TRIPLE_RESPONSES
from wrpo.rows.formats.base import in_our_columns

UNKNOWN_SOURCE = "unknown"
UNKNOWN_INDEX = -1

_PROMPTS = ("prompt", "messages", "conversations", "instruction", "question")
_CONVERSATIONS = ("messages", "conversations")
_COMPLETIONS = ("completion", "response", "output", "chosen")
_SOURCES = ("{}_source", "{}_model", "source_{}", "model_{}")
_SCORES = ("{}_score", "score_{}", "{}_rating", "rating_{}")


def import_table(settings: ImportedTable, table: str) -> tuple[list[Row], list[Row]]:
    """Rows of one build table, by prompt, and what was dropped: unusable and repeated rows.

    Raises:
        MissingInputError: the data is not there.
        DataError: no row is usable; names the columns that are there.
    """
    found = DistinctRows()
    try:
        found.add(settings, partial(_row, table=table, settings=settings), limit=settings.limit)
    except MissingInputError as error:
        raise MissingInputError(f"build.imported.{table}: {error}") from None
    rows, dropped = found.rows, found.dropped
    if not rows:
        first = dropped[0]["detail"] if dropped else f"{settings.path} holds no rows"
        raise DataError(
            f"build.imported.{table}: no usable row. {first}. Name the columns in "
            f"build.imported.{table}.columns, e.g. {{chosen: preferred_response}}"
        )
    return [
        rows[key] for key in sorted(rows, key=lambda key: (rows[key]["prompt_id"], key))
    ], dropped


def published_preference_row(record: Mapping[str, Any], names: tuple[str, ...]) -> Row:
    """A row of triples (three names) or pairs (two) out of a published row.

    Raises:
        Drop: a response is missing, or chosen and rejected are the same text.
    """
    prompt, responses = _prompt_and_responses(record, names)
    prompt = _with_system(record, prompt)
    if responses["chosen"] == responses["rejected"]:
        raise Drop("unusable", "chosen and rejected are the same text")
    key = prompt_id(prompt)
    response_ids = [response_id(prompt, responses[name]) for name in names]
    row: Row = {"triple_id": digest([key, response_ids]), "prompt_id": key, "prompt": prompt}
    for name in names:
        index, score = _provenance(record, name, responses[name])
        row[name] = [{"role": "assistant", "content": responses[name]}]
        row[f"{name}_source"] = _source(record, name)
        row[f"{name}_index"] = index
        row[f"{name}_score"] = score
    return row


def sft_row(record: Mapping[str, Any]) -> Row:
    """A row of the SFT table out of a published row: prompt and completion, or a conversation.

    Raises:
        Drop: there is no response.
    """
    column = next((name for name in _COMPLETIONS if record.get(name) is not None), None)
    if column:
        prompt, response = conversation(record[column])
        prompt = prompt or _prompt(record)
    else:
        column = _present(record, _CONVERSATIONS, "completion, and no conversation")
        prompt, response = conversation(record[column])
        if not prompt:
            raise Drop("unusable", f"{column} holds no user turn before the response")
    prompt = _with_system(record, prompt)
    source = record.get("source", record.get("model"))
    return {
        "prompt_id": prompt_id(prompt),
        "prompt": prompt,
        "completion": [{"role": "assistant", "content": response}],
        "source": encodable(str(source)) if source else UNKNOWN_SOURCE,
        "index": _integer(record.get("index")),
        "score": _number(record.get("score")),
    }


def _row(record: dict[str, Any], table: str, settings: ImportedTable) -> tuple[str, Row]:
    """(id, row): an SFT row is known by its response, another by its triple_id."""
    named = settings.columns.items()
    renamed: dict[str, Any] = {ours: record.get(theirs) for ours, theirs in named}
    record = {**record, **renamed}
    if settings.format is None:
        record = _inferred_from_columns(record, table)
    if table == "sft":
        row = sft_row(record)
        return response_id(row["prompt"], row["completion"][0]["content"]), row
    row = published_preference_row(record, ROW_RESPONSES[table])
    return row["triple_id"], row


def _inferred_from_columns(record: dict[str, Any], table: str) -> dict[str, Any]:
    try:
        return dict(in_our_columns(record, table=table))
    except DataError as error:
        raise Drop("unusable", str(error)) from None


def _prompt_and_responses(
    record: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[MessageList, dict[str, str]]:
    """The prompt before every response, which must be the same, and the responses by name."""
    prompts, responses = [], {}
    for name, value in _response_values(record, names).items():
        before, responses[name] = conversation(value)
        if before:
            prompts.append(before)
    if any(prompt != prompts[0] for prompt in prompts):
        raise Drop("unusable", "chosen and rejected answer different prompts")
    return (prompts[0] if prompts else _prompt(record)), responses


def _response_values(record: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    values = {name: record.get(name) for name in names}
    if "source_chosen" in names and not values["source_chosen"] and _several(values["chosen"]):
        raise Drop(
            "unusable",
            f"no source_chosen, and chosen is not [y_ws, y_wt]; it has: {', '.join(record)}",
        )
    missing = [name for name in names if values[name] is None]
    if missing:
        raise Drop("unusable", f"no {', '.join(missing)}; it has: {', '.join(record)}")
    return values


def _several(value: Any) -> bool:
    return isinstance(value, list) and len(value) != 1


def _prompt(record: Mapping[str, Any]) -> MessageList:
    return prompt_messages(record[_present(record, _PROMPTS, "prompt")])


def _with_system(record: Mapping[str, Any], prompt: MessageList) -> MessageList:
    """The prompt after the text of the column `system` (LLaMA-Factory), unless it has one."""
    system = record.get("system")
    if not isinstance(system, str) or not system or prompt[0]["role"] == "system":
        return prompt
    return [{"role": "system", "content": system}, *prompt]


def _present(record: Mapping[str, Any], names: tuple[str, ...], what: str) -> str:
    for name in names:
        if record.get(name) is not None:
            return name
    raise Drop(
        "unusable", f"no {what} (looked for {', '.join(names)}); it has: {', '.join(record)}"
    )


def _source(record: Mapping[str, Any], name: str) -> str:
    # The response `source_chosen` is not the name of the source of `chosen`.
    columns = [
        column for pattern in _SOURCES if (column := pattern.format(name)) not in TRIPLE_RESPONSES
    ]
    found = next((record[column] for column in columns if record.get(column)), None)
    return encodable(str(found)) if found else UNKNOWN_SOURCE


def _provenance(record: Mapping[str, Any], name: str, response: str) -> tuple[int, float | None]:
    """Index and score: from columns of their own, else from the list of all scored responses."""
    columns = (pattern.format(name) for pattern in _SCORES)
    score = next((record[column] for column in columns if record.get(column) is not None), None)
    index = _integer(record.get(f"{name}_index"))
    texts, scores = record.get("all_generated_responses"), record.get("all_rm_scores")
    if isinstance(texts, list) and isinstance(scores, list) and response in texts[: len(scores)]:
        index = texts.index(response)
        score = scores[index] if score is None else score
    return index, _number(score)


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, (int, float)) else None
    except OverflowError:
        return None


def _integer(value: Any) -> int:
    """A place among responses; what cannot be one is unknown."""
    is_place = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if is_place else UNKNOWN_INDEX

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

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar

from data_construction.datasets.distinct import DistinctRows
from data_construction.datasets.messages import (
    MessageList,
    conversation,
    encodable,
    ignoring,
    prompt_messages,
)
from data_construction.datasets.prompt import check_same_prompt, whole_prompt, without_prompt
from wrpo.errors import DataError, MissingInputError
from wrpo.ids import digest, prompt_id, response_id
from wrpo.pipeline.tables import ROW_RESPONSES, Drop, Row
from wrpo.recipe.build import ImportedTable
from wrpo.rows.cells import UnreadableCellError, name_text
from wrpo.rows.columns import IMPORTED_FROM, TRIPLE_RESPONSES
from wrpo.rows.formats.base import in_our_columns
from wrpo.rows.unread import RESPONSE_COLUMNS, WatchedRow, held

Value = TypeVar("Value")

UNKNOWN_SOURCE = "unknown"
UNKNOWN_INDEX = -1

_CONVERSATIONS = ("messages", "conversations")
_TEXTS = ("instruction", "question")
_PROMPTS = ("prompt", *_CONVERSATIONS, *_TEXTS)
_COMPLETIONS = ("completion", "response", "output", "chosen")
_SOURCES = ("{}_source", "{}_model", "source_{}", "model_{}")
_SCORES = ("{}_score", "score_{}", "{}_rating", "rating_{}")


class ImportedRows(NamedTuple):
    """What an import gives.

    Attributes:
        rows: by prompt.
        dropped: unusable and repeated rows.
        unread: how many rows hold something under a name that no row is made of.
    """

    rows: list[Row]
    dropped: list[Row]
    unread: Counter[str]


def import_table(settings: ImportedTable, table: str) -> ImportedRows:
    """Rows of one build table.

    Raises:
        MissingInputError: the data is not there.
        DataError: no row is usable; names the columns that are there.
    """
    found = DistinctRows()
    try:
        columns = found.add(
            settings,
            partial(_row, table=table),
            prepare=partial(_in_our_columns, table=table, settings=settings),
            limit=settings.limit,
        )
    except MissingInputError as error:
        raise MissingInputError(f"build.imported.{table}: {error}") from None
    rows, dropped = found.rows, found.dropped
    for ours, theirs in settings.columns.items():
        if columns and theirs not in columns:
            raise DataError(
                f"build.imported.{table}.columns.{ours}: no row of {settings.path} has a column "
                f'"{theirs}"; they have: {", ".join(sorted(columns))}'
            )
    if not rows:
        first = dropped[0]["detail"] if dropped else f"{settings.path} holds no rows"
        raise DataError(
            f"build.imported.{table}: no usable row. {first}. Name the columns in "
            f"build.imported.{table}.columns, e.g. {{chosen: preferred_response}}"
        )
    order = sorted(rows, key=lambda key: (rows[key]["prompt_id"], key))
    placed = [{**rows[key], IMPORTED_FROM: found.places[key]} for key in order]
    return ImportedRows(placed, dropped, found.unread)


def published_preference_row(record: Mapping[str, Any], names: tuple[str, ...]) -> Row:
    """A row of triples (three names) or pairs (two) out of a published row.

    Raises:
        Drop: a response is missing, or chosen and rejected are the same text.
    """
    prompt, responses = _prompt_and_responses(record, _response_values(record, names))
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
    row["unfinished"] = _unfinished(record, names)
    return row


def sft_row(record: Mapping[str, Any]) -> Row:
    """A row of the SFT table out of a published row: prompt and completion, or a conversation.

    Raises:
        Drop: there is no response.
    """
    column = next((name for name in _COMPLETIONS if record.get(name) is not None), None)
    alone = column is None
    column = column or _present(record, _CONVERSATIONS, "completion, and no conversation")
    prompt, responses = _prompt_and_responses(
        record, {column: record[column]}, needs_conversation=alone
    )
    source = next((record[name] for name in ("source", "model") if record.get(name)), None)
    index = _read_as(_integer, record, "index")
    return {
        "prompt_id": prompt_id(prompt),
        "prompt": prompt,
        "completion": [{"role": "assistant", "content": responses[column]}],
        "source": _name(source),
        "index": UNKNOWN_INDEX if index is None else index,
        "score": _read_as(_number, record, "score"),
        "unfinished": _unfinished(record, ("completion",)),
    }


def _unfinished(record: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """The responses that were cut, as an exported row names them."""
    named = record.get("unfinished")
    found = [] if named is None else [named] if isinstance(named, str) else named
    if not isinstance(found, list) or not set(map(str, found)) <= set(names):
        wanted = f"a list of names out of {', '.join(names)}"
        raise Drop("unusable", f"its column unfinished must be {wanted}, not {named!r}")
    return list(found)


def _row(record: Mapping[str, Any], table: str) -> tuple[str, Row]:
    """(id, row): an SFT row is known by its response, another by its triple_id."""
    if table not in ROW_RESPONSES:
        row = sft_row(record)
        return response_id(row["prompt"], row["completion"][0]["content"]), row
    row = published_preference_row(record, ROW_RESPONSES[table])
    return row["triple_id"], row


def _in_our_columns(record: dict[str, Any], table: str, settings: ImportedTable) -> dict[str, Any]:
    """The record with the columns that the recipe names, and in the format that it is of."""
    named = settings.columns
    others = {name: value for name, value in record.items() if name not in named.values()}
    record = {**others, **{ours: record.get(theirs) for ours, theirs in named.items()}}
    if settings.format is not None:  # it was read so
        return record
    try:
        return dict(in_our_columns(record, table=table))
    except DataError as error:
        raise Drop("unusable", str(error)) from None


def _prompt_and_responses(
    record: Mapping[str, Any], values: Mapping[str, Any], *, needs_conversation: bool = False
) -> tuple[MessageList, dict[str, str]]:
    """The prompt before every response, which must be the same, and the responses by name."""
    lost = held(record, RESPONSE_COLUMNS)
    if lost:
        raise Drop("unusable", f"its column {lost} holds something, {ignoring(lost)}")
    prompts, responses = [], {}
    for name, value in values.items():
        before, responses[name] = conversation(value)
        if before:
            prompts.append(before)
    if any(prompt != prompts[0] for prompt in prompts):
        raise Drop("unusable", "chosen and rejected answer different prompts")
    if needs_conversation and not prompts:
        raise Drop("unusable", f"{', '.join(values)} holds no user turn before the response")
    if prompts:
        check_same_prompt(record.get("prompt"), prompts[0])
        return whole_prompt(record, prompts[0]), responses
    asked = record[_present(record, _PROMPTS, "prompt")]
    return whole_prompt(record, asked), without_prompt(prompt_messages(asked), responses)


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
    return _name(found)


def _name(value: Any) -> str:
    try:
        found = name_text(value)
    except UnreadableCellError as error:
        raise Drop("unusable", f"the source is {error}") from None
    return encodable(found) if found else UNKNOWN_SOURCE


def _provenance(record: Mapping[str, Any], name: str, response: str) -> tuple[int, float | None]:
    """Index and score: from columns of their own, else from the list of all scored responses."""
    columns = (pattern.format(name) for pattern in _SCORES)
    score = next((s for c in columns if (s := _read_as(_number, record, c)) is not None), None)
    index = _read_as(_integer, record, f"{name}_index")
    texts = _read_as(_list, record, "all_generated_responses")
    scores = _read_as(_list, record, "all_rm_scores")
    if texts and scores and response in texts[: len(scores)]:
        index = texts.index(response)
        score = _number(scores[index]) if score is None else score
    elif isinstance(record, WatchedRow):
        record.read -= {"all_generated_responses", "all_rm_scores"}
    return UNKNOWN_INDEX if index is None else index, score


def _read_as(
    convert: Callable[[Any], Value | None], record: Mapping[str, Any], name: str
) -> Value | None:
    """A column; None, and the column counts as unread, where it is nothing of this kind."""
    value = convert(record.get(name))
    if value is None and isinstance(record, WatchedRow):
        record.read.discard(name)
    return value


def _number(value: Any) -> float | None:
    """A score; cells of CSV hold text."""
    if not isinstance(value, (int, float, str)) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except (OverflowError, ValueError):
        return None


def _integer(value: Any) -> int | None:
    """A place among responses; what cannot be one is unknown."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value) if len(value) < 10 else None
    is_place = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    return value if is_place else None


def _list(value: Any) -> list[Any] | None:
    return value if isinstance(value, list) else None

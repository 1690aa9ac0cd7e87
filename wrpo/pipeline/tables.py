"""The tables that stages hand to each other: schemas, and reading a finished folder of parts.

Rows join by id: a response is (prompt_id, source, index).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wrpo.errors import DataError, raise_if_of_system
from wrpo.files import replacing
from wrpo.rows.columns import IMPORTED_FROM

Row = dict[str, Any]

WAY_OUT = "delete this file and run the stage again, it makes only what is missing"

_RENAMED = {"answer": "reference_answer", "heads": "rewards", "answer_id": "response_id"}
"""Columns of tables made by older versions, and what they are called now."""

_ADDED = {"unfinished", "imported_from", "answer_start", "thought_tokens"}
"""Columns that tables of older versions lack; null there."""

_UNFINISHED = ("unfinished", pa.list_(pa.string()))
"""Names of the responses that do not end: training gives them no end of turn."""


_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

_REQUIRED = {b"required": b"yes"}


def _required(name: str, kind: pa.DataType) -> pa.Field:
    """A column that holds a value in every row; `read_table` checks it."""
    return pa.field(name, kind, metadata=_REQUIRED)


PROMPTS = pa.schema(
    [
        _required("prompt_id", pa.string()),
        _required("messages", _MESSAGES),
        ("domain", pa.string()),
        ("split", pa.string()),
        ("origin", pa.string()),
        ("reference_answer", pa.string()),
    ]
)

RESPONSES = pa.schema(
    [
        _required("prompt_id", pa.string()),
        _required("source", pa.string()),
        _required("index", pa.int32()),
        _required("text", pa.string()),
        ("token_ids", pa.list_(pa.int32())),
        ("finish_reason", pa.string()),
        ("token_count", pa.int32()),
        ("seed", pa.int64()),
        ("logprob", pa.float64()),
        ("answer_start", pa.int32()),
        ("thought_tokens", pa.int32()),
    ]
)
"""`text` is the whole response. `answer_start` is where its answer begins, in characters: null
where it has no thought, the length of the text where the thought is not closed."""

UNCLOSED = "unclosed_thought"
"""Finish reason of responses that end before their thought does."""

UNFINISHED = ("length", UNCLOSED)
"""Finish reasons of responses that do not end by themselves."""


def answer_of(row: Row) -> str:
    """The answer of a row of responses: its text without the thought."""
    return str(row["text"][row.get("answer_start") or 0 :])


SCORES = pa.schema(
    [
        _required("prompt_id", pa.string()),
        _required("source", pa.string()),
        _required("index", pa.int32()),
        _required("score", pa.float64()),
        _required("rewards", pa.list_(pa.struct([("name", pa.string()), ("value", pa.float64())]))),
    ]
)

SFT_ROWS = pa.schema(
    [
        _required("prompt_id", pa.string()),
        _required("prompt", _MESSAGES),
        _required("completion", _MESSAGES),
        ("source", pa.string()),
        ("index", pa.int32()),
        ("score", pa.float64()),
        _UNFINISHED,
        (IMPORTED_FROM, pa.string()),
    ]
)


EXAMINED = pa.schema(
    [
        *SFT_ROWS,
        _required("knowledge", pa.string()),
        _required("passage", pa.string()),
        _required("questions", pa.int32()),
        _required("right", pa.int32()),
    ]
)
"""SFT rows with what an exam says of them: `knowledge` is no_need_fact, need_and_have_fact,
need_and_have_no_fact or unparsed."""


def _response_columns(names: Sequence[str]) -> list[pa.Field]:
    columns = [_required(name, _MESSAGES) for name in names]
    for name in names:
        columns += [
            pa.field(f"{name}_source", pa.string()),
            pa.field(f"{name}_index", pa.int32()),
            pa.field(f"{name}_score", pa.float64()),
        ]
    return columns


_ROW_HEAD = [
    _required("triple_id", pa.string()),
    _required("prompt_id", pa.string()),
    _required("prompt", _MESSAGES),
]

ROW_RESPONSES = {
    "triples": ("source_chosen", "chosen", "rejected"),
    "pairs": ("chosen", "rejected"),
    "source_pairs": ("chosen", "rejected"),
    "delta": ("chosen", "rejected"),
}
"""The responses of a row of each preference table."""

_ROW_TAIL = [_UNFINISHED, (IMPORTED_FROM, pa.string())]

TRIPLES = pa.schema([*_ROW_HEAD, *_response_columns(ROW_RESPONSES["triples"]), *_ROW_TAIL])
PAIRS = pa.schema([*_ROW_HEAD, *_response_columns(ROW_RESPONSES["pairs"]), *_ROW_TAIL])

BUILT = {
    "sft": SFT_ROWS,
    "triples": TRIPLES,
    "pairs": PAIRS,
    "source_pairs": PAIRS,
    "delta": PAIRS,
    "rejection": SFT_ROWS,
    "revisions": SFT_ROWS,
    "responses": SFT_ROWS,
}
"""Schemas of the training tables."""


LOGPROBS = pa.schema(
    [
        _required("response_id", pa.string()),
        _required("logp", pa.float64()),
        _required("length", pa.int32()),
        _required("mean_logp", pa.float64()),
        ("mean_entropy", pa.float64()),
        ("method", pa.string()),
    ]
)
"""Log-prob of a response under one model, in nats: sum and mean over `length` tokens of that model,
and the mean entropy of its next-token distributions, where the method knows it."""


TEACHER_LOGITS = pa.schema(
    [
        _required("response_id", pa.string()),
        _required("token_ids", pa.list_(pa.int32())),
        _required("top_ids", pa.list_(pa.list_(pa.int32()))),
        _required("top_logps", pa.list_(pa.list_(pa.float32()))),
        _required("rest", pa.list_(pa.float32())),
        _required("mean_nll", pa.float64()),
        _required("forwarded", pa.int32()),
    ]
)
"""Distributions of one model over the tokens of a response, under its own tokenizer: per token the
stored ids, their log-probs and the log of all other mass; the mean negative log-prob of its tokens;
how many tokens the model forwarded for it, prompt included.
"""


DROPPED = pa.schema(
    [
        ("prompt_id", pa.string()),
        ("source", pa.string()),
        ("index", pa.int32()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(unsafe_hash=True)
class Drop(Exception):
    """Something is left out, and why: returned in place of what was asked for, or raised.

    Attributes:
        reason: a short fixed word; docs/stages.md explains each.
        detail: the value seen.
    """

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return self.detail or self.reason

    def row(self, prompt_id: str, *, source: str = "", index: int = -1) -> Row:
        """One row of `dropped.parquet`; index -1 is a prompt with all its responses.

        What cannot be written as UTF-8 is escaped in `detail`, so that the row is kept.
        """
        return {
            "prompt_id": prompt_id,
            "source": source,
            "index": index,
            "reason": self.reason,
            "detail": self.detail[:500].encode("utf-8", "backslashreplace").decode(),
        }


def part_name(part: int) -> str:
    """File name of one part."""
    return f"part-{part:05d}.parquet"


def parts(folder: Path) -> list[Path]:
    """The part files of a stage folder, in order."""
    return sorted(folder.glob("part-*.parquet"))


def iter_parts(folder: Path, schema: pa.Schema | None = None) -> Iterator[list[Row]]:
    """The rows of each part, one part in memory at a time.

    Args:
        schema: the table that these must be.

    Raises:
        DataError: a part is not readable or another table; names the file and the way out.
    """
    for path in parts(folder):
        yield read_parquet(path, schema)


def read_rows(folder: Path, schema: pa.Schema | None = None) -> list[Row]:
    """All rows of a stage folder, in order; arguments and errors as `iter_parts`."""
    return [row for rows in iter_parts(folder, schema) for row in rows]


def read_parquet(path: Path, schema: pa.Schema | None = None) -> list[Row]:
    """The rows of one parquet file; arguments and errors as `iter_parts`."""
    rows: list[Row] = read_table(path, schema.names if schema else None, schema).to_pylist()
    return rows


def read_column(path: Path, name: str, schema: pa.Schema) -> pa.ChunkedArray:
    """One column of a table; the others are not read. Errors as `read_table`."""
    return read_table(path, [name], schema)[name]


def read_table(
    path: Path, columns: list[str] | None = None, schema: pa.Schema | None = None
) -> pa.Table:
    """One parquet file, or some of its columns; with no columns, only its number of rows.

    Args:
        schema: the types that the columns must have.

    Raises:
        DataError: the file is missing or damaged, or is another table.
    """
    try:
        # One file and no dataset: names of folders (`a=b`) are no columns.
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            written = file.schema_arrow.names
            found = file.read(columns=columns)
        found.validate(full=True)  # UTF-8 too, in files that have no checksums
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise_if_of_system(error, path)
        raise DataError(f"{path}: not readable as parquet ({error}); {WAY_OUT}") from None
    types = dict(zip(found.schema.names, found.schema.types, strict=True))
    for name in [name for name in columns or () if name in _ADDED and name not in types]:
        kind = schema.field(name).type if schema else pa.null()
        found = found.append_column(name, pa.nulls(found.num_rows, kind))
        types[name] = kind
    for name in columns or ():
        if name not in types or (schema and types[name] != schema.field(name).type):
            old = next((old for old in written if _RENAMED.get(old) == name), None)
            if old:
                raise DataError(
                    f'{path}: an older version wrote it: its column "{old}" is now called '
                    f'"{name}"; delete the folder {path.parent} and run the stage again'
                )
            problem = f"its {name} is {types[name]}" if name in types else f"it has no {name}"
            raise DataError(f"{path}: damaged, or another table, because {problem}; {WAY_OUT}")
    for field in schema or ():
        name = field.name
        if name in types and field.metadata == _REQUIRED and found[name].null_count:
            row = found[name].is_null().to_pylist().index(True)
            raise DataError(f"{path}: damaged, because row {row} has no {name}; {WAY_OUT}")
    return found if columns is None else found.select(columns)


def write_parquet(path: Path, rows: list[Row], schema: pa.Schema) -> None:
    """Writes rows under a temporary name, then renames: a reader never sees half a file.

    Pages have checksums, so that a disk that changes bits is noticed.
    """
    with replacing(path) as partial:
        pq.write_table(
            pa.Table.from_pylist(rows, schema=schema),
            partial,
            compression="zstd",
            write_page_checksum=True,
        )


_PARTS_IN_MEMORY = 2


class RowLookup:
    """The rows of a finished stage by prompt id; only ids and the parts read last are in memory."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self._path_of = {
            key: path
            for path in parts(folder)
            for key in read_column(path, "prompt_id", schema).unique().to_pylist()
        }
        self._rows = lru_cache(maxsize=_PARTS_IN_MEMORY)(partial(_by_id, schema=schema))

    def rows(self, prompt_id: str) -> list[Row]:
        """The rows of one prompt, in their order; none where it has none."""
        path = self._path_of.get(prompt_id)
        return self._rows(path)[prompt_id] if path else []


class PromptLookup(RowLookup):
    """The rows of RUN/prompts, one per prompt."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, PROMPTS)

    def __getitem__(self, prompt_id: str) -> Row:
        """The row of one prompt.

        Raises:
            DataError: no such prompt.
        """
        rows = self.rows(prompt_id)
        if not rows:
            raise DataError(f"response to unknown prompt {prompt_id}; sample again")
        return rows[0]


def _by_id(path: Path, schema: pa.Schema) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in read_parquet(path, schema):
        found.setdefault(row["prompt_id"], []).append(row)
    return found

"""Tables: a file is whole or not there, and comes back as it was written."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.wrpo.pipeline.table_schemas import TABLES
from wrpo.errors import DataError
from wrpo.pipeline.tables import (
    DROPPED,
    LOGPROBS,
    PAIRS,
    PROMPTS,
    RESPONSES,
    SCORES,
    SFT_ROWS,
    TRIPLES,
    Drop,
    Row,
    iter_parts,
    part_name,
    parts,
    read_parquet,
    read_rows,
    read_table,
    write_parquet,
)

PROMPT: Row = {
    "prompt_id": "p1",
    "messages": [{"role": "user", "content": "Grüße \u0000 \U0001f600"}],
    "domain": "words",
    "split": "sft",
    "origin": "world",
    "reference_answer": None,
}
RESPONSE: Row = {
    "prompt_id": "p1",
    "source": "letters",
    "index": 4,
    "text": "",
    "token_ids": [1, 2, 128009],
    "finish_reason": "stop",
    "token_count": 3,
    "seed": 2**31 - 1,
    "logprob": None,
    "answer_start": None,
    "thought_tokens": None,
}


@pytest.mark.parametrize(("row", "schema"), [(PROMPT, PROMPTS), (RESPONSE, RESPONSES)])
def test_rows_come_back_as_they_were_written(tmp_path: Path, row: Row, schema: pa.Schema) -> None:
    write_parquet(tmp_path / part_name(0), [row, row], schema)
    assert read_rows(tmp_path) == [row, row]


@pytest.mark.parametrize("schema", TABLES.values(), ids=TABLES)
def test_an_empty_table_keeps_its_columns(tmp_path: Path, schema: pa.Schema) -> None:
    path = tmp_path / part_name(0)
    write_parquet(path, [], schema)
    assert read_parquet(path) == []
    assert pq.read_schema(path).names == schema.names


def test_triples_hold_the_columns_that_trl_reads() -> None:
    assert {"prompt", "chosen", "rejected", "source_chosen"} <= set(TRIPLES.names)
    assert {"prompt", "chosen", "rejected"} <= set(PAIRS.names)
    assert TRIPLES.field("chosen").type == TRIPLES.field("prompt").type


def test_parts_come_in_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 10000, 0):
        row = {**RESPONSE, "index": number}
        write_parquet(tmp_path / part_name(number), [row], RESPONSES)
    assert [row["index"] for row in read_rows(tmp_path)] == [0, 2, 10, 10000]
    assert [len(rows) for rows in iter_parts(tmp_path)] == [1, 1, 1, 1]


def test_other_files_of_the_folder_are_no_parts(tmp_path: Path) -> None:
    for name in ("dropped.parquet", ".part-00000.parquet.partial", "manifest.json"):
        (tmp_path / name).touch()
    assert parts(tmp_path) == []


def test_a_table_of_an_older_version_has_nulls_where_it_lacks_a_column(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "x"}]
    row = {"prompt_id": "p", "prompt": said, "completion": said, "source": "one"}
    row |= {"index": 0, "score": 1.0}
    new = ("unfinished", "imported_from")
    old = pa.schema([field for field in SFT_ROWS if field.name not in new])
    write_parquet(tmp_path / part_name(0), [row], old)
    (read,) = read_rows(tmp_path, SFT_ROWS)
    assert read == {**row, **dict.fromkeys(new)}


def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / part_name(3)
    write_parquet(path, [RESPONSE], RESPONSES)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"part-00003\.parquet: not readable .* delete this file"):
        read_rows(tmp_path)


def test_a_value_of_a_wrong_type_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(pa.ArrowException):
        write_parquet(tmp_path / part_name(0), [{**RESPONSE, "index": "first"}], RESPONSES)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / part_name(0)
    write_parquet(path, [RESPONSE], RESPONSES)
    with pytest.raises(pa.ArrowException):
        write_parquet(path, [{**RESPONSE, "index": "first"}], RESPONSES)
    assert read_parquet(path) == [RESPONSE]


def test_dropped_row_fits_its_table_and_cuts_long_details(tmp_path: Path) -> None:
    row = Drop("too_long", "x" * 9000).row("p1", source="letters", index=2)
    write_parquet(tmp_path / part_name(0), [row], DROPPED)
    [read] = read_rows(tmp_path)
    assert (read["reason"], read["source"], read["index"]) == ("too_long", "letters", 2)
    assert len(read["detail"]) == 500


@pytest.mark.parametrize(
    ("old", "new", "schema"),
    [
        ("answer", "reference_answer", PROMPTS),
        ("heads", "rewards", SCORES),
        ("answer_id", "response_id", LOGPROBS),
    ],
)
def test_a_table_of_an_older_version_names_the_new_column(
    tmp_path: Path, old: str, new: str, schema: pa.Schema
) -> None:
    path = tmp_path / "part-00000.parquet"
    names = [old if name == new else name for name in schema.names]
    pq.write_table(schema.empty_table().rename_columns(names), path)
    with pytest.raises(DataError, match=f'"{old}" is now called "{new}"; delete the folder'):
        read_table(path, schema.names, schema)


@pytest.mark.parametrize(("row", "schema"), [(PROMPT, PROMPTS), (RESPONSE, RESPONSES)])
def test_a_row_without_a_needed_value_is_named(tmp_path: Path, row: Row, schema: pa.Schema) -> None:
    path = tmp_path / "part-00000.parquet"
    for field in schema:
        write_parquet(path, [row, {**row, field.name: None}], schema)
        if field.metadata:
            with pytest.raises(DataError, match=f"damaged, because row 1 has no {field.name}"):
                read_table(path, schema=schema)
        else:
            assert read_table(path, schema=schema).num_rows == 2

"""Any row of any table comes back as it was written, however a table is cut into parts."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wrpo.pipeline.table_schemas import TABLES
from wrpo.pipeline.folder import StageFolder, read_manifest
from wrpo.pipeline.tables import (
    DROPPED,
    SCORES,
    Drop,
    Row,
    part_name,
    read_parquet,
    read_rows,
    write_parquet,
)

few = settings(max_examples=15, deadline=None, derandomize=True, database=None)

LETTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.one_of(
    st.text(LETTERS, max_size=20),
    st.sampled_from(["\x00", "a\x00b", "\ufeff", "\r\n", "\u2028", "e\u0301", "\U0010ffff"]),
    st.builds(lambda text, times: text * times, st.text(LETTERS, max_size=3), st.just(30_000)),
)
SURROGATES = st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3)


def values(kind: pa.DataType, *, required: bool = False) -> st.SearchStrategy[Any]:
    """Any value of a column, nothing included where a row may lack it."""
    if pa.types.is_string(kind):
        found: st.SearchStrategy[Any] = TEXTS
    elif pa.types.is_integer(kind):
        most = 2 ** (kind.bit_width - 1)
        found = st.integers(-most, most - 1)
    elif pa.types.is_floating(kind):
        found = st.floats(allow_nan=False)
    elif pa.types.is_list(kind):
        found = st.lists(values(kind.value_type), max_size=3)
    else:
        found = st.fixed_dictionaries({field.name: values(field.type) for field in kind})
    return found if required else st.one_of(st.none(), found, found, found)


def rows_of(schema: pa.Schema) -> st.SearchStrategy[list[Row]]:
    row = st.fixed_dictionaries(
        {field.name: values(field.type, required=bool(field.metadata)) for field in schema}
    )
    return st.lists(row, max_size=6)


@pytest.mark.parametrize("table", TABLES)
@few
@given(data=st.data())
def test_rows_come_back_whatever_the_parts(table: str, data: st.DataObject) -> None:
    schema = TABLES[table]
    rows = data.draw(rows_of(schema))
    ends = data.draw(st.lists(st.integers(0, len(rows)), max_size=4).map(sorted))
    with TemporaryDirectory() as name:
        folder = Path(name)
        for part, (first, last) in enumerate(zip([0, *ends], [*ends, len(rows)], strict=True)):
            write_parquet(folder / part_name(part), rows[first:last], schema)
        assert read_rows(folder, schema) == rows
        assert read_rows(folder) == rows


@few
@given(rows=rows_of(SCORES), size=st.integers(1, 7))
def test_a_table_that_is_cut_by_its_stage_is_the_same_table(rows: list[Row], size: int) -> None:
    with TemporaryDirectory() as name, patch("wrpo.pipeline.folder.ROWS_PER_PART", size):
        folder = StageFolder(Path(name) / "stage", {"seed": 1})
        folder.open()
        folder.finish_parts(folder.write_table(rows, SCORES, dropped=[Drop("long").row("p")]))
        manifest = read_manifest(folder.path) or {}
        assert read_rows(folder.path) == rows
        assert (manifest["rows"], manifest["dropped"]) == (len(rows), 1)
        assert manifest["parts"] == max(1, math.ceil(len(rows) / size))


@few
@given(text=TEXTS, surrogates=SURROGATES)
def test_text_that_is_no_unicode_leaves_no_file_and_a_dropped_row_of_it_can_be_written(
    text: str, surrogates: str
) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / part_name(0)
        row = {**Drop("unusable").row("p"), "detail": text[:30] + surrogates}
        with pytest.raises(UnicodeEncodeError):
            write_parquet(path, [row], DROPPED)
        assert list(Path(name).iterdir()) == []
        write_parquet(path, [Drop("unusable", surrogates + text).row("p")], DROPPED)
        assert read_parquet(path)[0]["detail"].startswith("\\ud")

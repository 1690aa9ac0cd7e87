"""Any texts, in files of any kind and order: each row is used or dropped once, and always alike."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_construction.datasets.published import import_table
from data_construction.prompts import collect
from tests.support.recipe_files import tiny_recipe
from wrpo.errors import DataError
from wrpo.ids import prompt_id
from wrpo.pipeline.tables import BUILT, DROPPED, PROMPTS, Row, read_rows, write_parquet
from wrpo.recipe.build import ImportedTable

few = settings(max_examples=20, deadline=None, derandomize=True, database=None)

Texts = list[str | None]

LETTERS = st.characters(exclude_categories=["Cs"])
ODD = ["", " \n", "\x00", "a\x00b", "a\rb", "a\r\nb", '"', "a,b", "\ufeffa", "\u2028", "a" * 70_000]
WRITABLE = st.one_of(st.text(LETTERS, max_size=8), st.sampled_from(ODD))
BROKEN = st.sampled_from(["\ud800", "a\udfff", "\udcff b"])


def write_lines(path: Path, texts: Texts) -> None:
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))


def write_list(path: Path, texts: Texts) -> None:
    path.write_text(json.dumps([{"prompt": text} for text in texts]))


def write_csv(path: Path, texts: Texts) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([["prompt"], *([text] for text in texts)])


def write_table(path: Path, texts: Texts) -> None:
    column = pa.array(texts, pa.string())
    pq.write_table(pa.table({"prompt": column}), path, row_group_size=2)


KINDS: dict[str, Callable[[Path, Texts], None]] = {
    "jsonl": write_lines,
    "json": write_list,
    "csv": write_csv,
    "parquet": write_table,
}


def collected(folder: Path, kind: str, texts: Texts) -> tuple[list[Row], list[Row]]:
    """Prompts and dropped rows as they are read back from their tables; no prompts, no rows."""
    path = folder / f"prompts.{kind}"
    KINDS[kind](path, texts)
    recipe = tiny_recipe(folder, f"prompts.datasets.world.path={path}")
    try:
        rows, dropped = collect(recipe)
    except DataError as error:
        assert "no usable prompt" in str(error)
        return [], []
    made = []
    for name, table, schema in (("kept", rows, PROMPTS), ("dropped", dropped, DROPPED)):
        (folder / name).mkdir(exist_ok=True)
        write_parquet(folder / name / "part-00000.parquet", table, schema)
        made.append(read_rows(folder / name, schema))
    return made[0], made[1]


def usable(texts: Texts) -> set[str]:
    """The ids that the prompts must have."""
    found = set()
    for text in texts:
        try:
            if text is not None and text.encode() and text.strip():
                found.add(prompt_id([{"role": "user", "content": text}]))
        except UnicodeEncodeError:
            continue
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@few
@given(data=st.data())
def test_each_row_of_a_file_is_a_prompt_or_is_dropped_once(kind: str, data: st.DataObject) -> None:
    one = WRITABLE if kind in ("csv", "parquet") else st.one_of(WRITABLE, WRITABLE, BROKEN)
    texts: Texts = data.draw(st.lists(one if kind == "csv" else st.one_of(one, st.none())))
    shuffled = data.draw(st.permutations(texts))
    with TemporaryDirectory() as name:
        rows, dropped = collected(Path(name), kind, texts)
        again, _ = collected(Path(name), kind, shuffled)
    expected = usable(texts)
    assert [row["prompt_id"] for row in rows] == sorted(expected)
    assert not rows or len(rows) + len(dropped) == len(texts)
    assert {row["messages"][0]["content"] for row in rows} <= set(texts)
    assert [(r["prompt_id"], r["split"]) for r in again] == [
        (r["prompt_id"], r["split"]) for r in rows
    ]


@few
@given(texts=st.lists(WRITABLE, min_size=1))
def test_files_of_all_kinds_give_the_same_prompts(texts: list[str]) -> None:
    with TemporaryDirectory() as name:
        tables = [collected(Path(name), kind, list(texts))[0] for kind in KINDS]
    assert all(table == tables[0] for table in tables)


PROVENANCE: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), WRITABLE, BROKEN, st.just(10**400)
)
PUBLISHED = st.fixed_dictionaries(
    {
        "prompt": st.one_of(st.none(), WRITABLE, BROKEN),
        "source_chosen": st.sampled_from(["yes", "well"]),
        "chosen": st.one_of(WRITABLE, BROKEN, st.sampled_from(["yes", "no"])),
        "rejected": st.sampled_from(["no", "never"]),
    },
    optional={
        "chosen_source": PROVENANCE,
        "chosen_index": PROVENANCE,
        "chosen_score": PROVENANCE,
        "source": PROVENANCE,
        "index": PROVENANCE,
        "score": PROVENANCE,
        "\ud800": PROVENANCE,
    },
)


@pytest.mark.parametrize("table", BUILT)
@few
@given(records=st.lists(PUBLISHED, min_size=1, max_size=6))
def test_each_published_row_is_a_row_of_the_table_or_is_dropped_once(
    table: str, records: list[Row]
) -> None:
    with TemporaryDirectory() as name:
        path = Path(name) / "rows.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        try:
            rows, dropped, *_ = import_table(ImportedTable(path=str(path)), table)
        except DataError as error:
            assert "no usable row" in str(error)
            return
        assert len(rows) + len(dropped) == len(records)
        write_parquet(Path(name) / "part-00000.parquet", rows, BUILT[table])
        assert len(read_rows(Path(name), BUILT[table])) == len(rows)
        write_parquet(Path(name) / "dropped.parquet", dropped, DROPPED)

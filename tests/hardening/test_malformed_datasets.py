"""Three hundred malformed datasets: every row is used or dropped with a reason, or one message."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_construction.datasets.published import import_table
from data_construction.prompts import collect
from tests.hardening.malformed import ODD_VALUES, damaged_bytes, damaged_tree, flipped
from tests.support.recipe_files import tiny_recipe
from wrpo.errors import WRPOError
from wrpo.recipe.build import ImportedTable

KINDS = ("jsonl", "json", "csv", "parquet")
PER_KIND = 50
ROWS = 6


def good_rows() -> list[dict[str, Any]]:
    """Rows that serve as prompts and as pairs."""
    return [
        {
            "prompt": f"Name river {number}.",
            "chosen": [{"role": "assistant", "content": f"Rhine {number}"}],
            "rejected": [{"role": "assistant", "content": f"Alps {number}"}],
            "source": "a",
        }
        for number in range(ROWS)
    ]


def encode(rows: list[Any], kind: str) -> bytes:
    """The rows as a file of a kind."""
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind == "json":
        return json.dumps(rows).encode()
    if kind == "csv":
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["prompt", "chosen", "rejected"])
        for row in rows:
            cells = row if isinstance(row, dict) else {"prompt": row}
            values = [cells.get(name) for name in ("prompt", "chosen", "rejected")]
            writer.writerow(
                [json.dumps(value) if isinstance(value, list) else value for value in values]
            )
        return text.getvalue().encode("utf-8", errors="surrogatepass")
    sink = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist([row if isinstance(row, dict) else {} for row in rows]), sink
    )
    return sink.getvalue()


def malformed(kind: str, chance: random.Random) -> bytes:
    """A file with a damaged row, or damaged as bytes."""
    rows: list[Any] = good_rows()
    if chance.random() < 0.6:
        at = chance.randrange(ROWS)
        rows[at] = (
            chance.choice(ODD_VALUES) if chance.random() < 0.3 else damaged_tree(rows[at], chance)
        )
        try:
            return encode(rows, kind)
        except (pa.ArrowException, ValueError, OverflowError):  # no parquet file can hold this row
            rows[at] = {"prompt": None}
            return encode(rows, kind)
    return damaged_bytes(encode(rows, kind), chance)


@pytest.mark.parametrize("kind", KINDS)
def test_every_prompt_is_used_or_dropped_with_a_reason_or_the_file_is_named(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / f"prompts.{kind}"
    recipe = tiny_recipe(tmp_path, f"prompts.datasets.world.path={path}")
    used = 0
    for seed in range(PER_KIND):
        path.write_bytes(malformed(kind, random.Random(f"{kind} {seed}")))
        try:
            rows, dropped = collect(recipe)
        except WRPOError as error:
            assert str(path) in str(error), (seed, str(error))
            continue
        used += len(rows)
        assert all(row["reason"] and row["detail"] for row in dropped), seed
        for row in rows:
            assert row["messages"][-1]["role"] == "user"
            assert row["messages"][-1]["content"].strip()
    assert used > PER_KIND  # most files have good rows beside the damaged one


@pytest.mark.parametrize("table", ["sft", "pairs"])
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_every_imported_row_is_used_or_dropped_with_a_reason_or_the_file_is_named(
    table: str, kind: str, tmp_path: Path
) -> None:
    path = tmp_path / f"rows.{kind}"
    settings = ImportedTable(path=str(path))
    used = 0
    for seed in range(PER_KIND // 2):
        path.write_bytes(malformed(kind, random.Random(f"{table} {kind} {seed}")))
        try:
            rows, dropped, *_ = import_table(settings, table)
        except WRPOError as error:
            assert str(path) in str(error) or "row" in str(error), (seed, str(error))
            continue
        used += len(rows)
        assert all(row["reason"] and row["detail"] for row in dropped), seed
    assert used > PER_KIND // 2


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_parquet_file_with_another_bit_gives_all_its_rows_or_is_named(
    compression: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet"
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(good_rows()), sink, compression=compression)
    refused = 0
    for seed in range(300):
        path.write_bytes(flipped(sink.getvalue(), random.Random(seed)))
        try:
            rows, dropped, *_ = import_table(ImportedTable(path=str(path)), "pairs")
        except WRPOError as error:
            refused += 1
            assert str(path) in str(error), seed
            continue
        assert len(rows) + len(dropped) == ROWS, seed
    assert 50 < refused < 300

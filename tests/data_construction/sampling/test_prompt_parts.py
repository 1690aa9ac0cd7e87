"""Parts of prompts: the same rows as cutting the whole table, read one part at a time."""

import random
from collections import Counter
from pathlib import Path

import pytest

from data_construction.sampling.prompt_parts import PromptParts
from wrpo.errors import DataError
from wrpo.pipeline.tables import PROMPTS, Row, part_name, read_rows, write_parquet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chance = random.Random(0)
    number = 0
    for part, size in enumerate([7, 0, 10, 1, 6]):
        rows: list[Row] = []
        for _ in range(size):
            messages = [{"role": "user", "content": f"text {number}"}]
            split = chance.choice(["sft", "preference"])
            row = {"prompt_id": f"p{number}", "messages": messages, "split": split}
            rows.append(
                {**row, "domain": chance.choice("abc"), "origin": "o", "reference_answer": None}
            )
            number += 1
        write_parquet(tmp_path / part_name(part), rows, PROMPTS)
    return tmp_path


@pytest.mark.parametrize("split", [None, "preference"])
@pytest.mark.parametrize("domains", [None, ["a", "c"]])
@pytest.mark.parametrize("limit", [None, 1, 9, 1000])
@pytest.mark.parametrize("size", [1, 4, 5, 100])
def test_parts_are_the_chunks_of_the_whole_table(
    folder: Path, split: str | None, domains: list[str] | None, limit: int | None, size: int
) -> None:
    rows = [row for row in read_rows(folder) if split in (None, row["split"])]
    rows = [row for row in rows if domains is None or row["domain"] in domains][:limit]
    chunks = [rows[at : at + size] for at in range(0, len(rows), size)]
    found = PromptParts(folder, size, split=split, domains=domains, limit=limit)
    assert (len(found), found.total) == (len(chunks), len(rows))
    order = random.Random(size).sample(range(len(chunks)), len(chunks))
    for part in order:
        columns = ("prompt_id", "messages", "domain")
        expected = [{key: row[key] for key in columns} for row in chunks[part]]
        assert found.read(part) == expected
        assert found.size(part) == len(expected)
        assert found.domains(part) == Counter(row["domain"] for row in expected)
    assert found.domains() == Counter(row["domain"] for row in rows)


def test_a_folder_without_prompts_has_no_parts(tmp_path: Path) -> None:
    assert len(PromptParts(tmp_path, 4)) == 0


def test_a_damaged_file_is_named(folder: Path) -> None:
    (folder / part_name(2)).write_text("not parquet")
    with pytest.raises(DataError, match="part-00002"):
        PromptParts(folder, 4)

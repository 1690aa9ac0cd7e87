"""Formats of rows: each reads what it writes, and is known by columns that only it has."""

from __future__ import annotations

from typing import Any

import pytest

from wrpo.errors import DataError
from wrpo.rows.formats.base import in_our_columns, row_formats


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


PROMPT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi?"}]
TRIPLE: dict[str, Any] = {
    "prompt_id": "p",
    "prompt": PROMPT,
    **{name: said(name) for name in ("source_chosen", "chosen", "rejected")},
    **{f"{name}_score": 0.5 for name in ("source_chosen", "chosen", "rejected")},
}
ROWS = {
    "triples": TRIPLE,
    "pairs": {name: TRIPLE[name] for name in ("prompt", "chosen", "rejected")},
    "sft": {"prompt": PROMPT, "completion": said("Hello.")},
}
ROWS |= {"source_pairs": ROWS["pairs"], "delta": ROWS["pairs"], "rejection": ROWS["sft"]}
ROWS["responses"] = ROWS["sft"]
WRITTEN = [
    (name, table) for name, known in row_formats().items() for table in known.tables if known.writes
]


def responses(row: Any) -> dict[str, Any]:
    names = ("prompt", "completion", "source_chosen", "chosen", "rejected")
    return {name: row[name] for name in names if name in row}


@pytest.mark.parametrize(("name", "table"), WRITTEN)
def test_a_format_reads_what_it_writes(name: str, table: str) -> None:
    written = row_formats()[name].write(ROWS[table])
    assert responses(in_our_columns(written, name=name)) == responses(ROWS[table])


def test_rows_are_known_by_what_only_one_format_has() -> None:
    published = row_formats()["wrpo"].write(TRIPLE)
    assert responses(in_our_columns(published)) == responses(TRIPLE)
    assert in_our_columns(published, table="pairs") is published
    assert in_our_columns(TRIPLE) is TRIPLE
    conversation = {"prompt": PROMPT, "chosen": [*PROMPT, *said("a")], "rejected": said("b")}
    assert in_our_columns(conversation) is conversation


def test_a_row_that_is_not_of_the_named_format_says_what_it_has() -> None:
    with pytest.raises(DataError, match=r"not a row of format wrpo .*y_ws, y_wt.*it has: prompt"):
        in_our_columns({"prompt": "Hi?", "chosen": "a"}, name="wrpo")
    with pytest.raises(DataError, match="format llama-factory .*KeyError: 'conversations'"):
        in_our_columns(TRIPLE, name="llama-factory")

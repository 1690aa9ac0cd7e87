"""docs/stages.md: each tool reads the rows of a stage as shown, and log-probs join to them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import ROOT, blocks
from wrpo.ids import response_id
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.tables import LOGPROBS, TRIPLES, Row

NAMES = ("source_chosen", "chosen", "rejected")
BLOCKS = [block for block in blocks(ROOT / "docs" / "stages.md") if block.language == "python"]


def triple(number: int) -> Row:
    said = {name: [{"role": "assistant", "content": f"{name} {number}"}] for name in NAMES}
    known = {f"{name}_{of}": None for name in NAMES for of in ("source", "index", "score")}
    prompt = [{"role": "user", "content": f"Say {number}."}]
    return {"triple_id": f"t{number}", "prompt_id": f"p{number}", "prompt": prompt, **said, **known}


def logprob(row: Row, name: str, value: float) -> Row:
    unknown = {"length": 3, "mean_logp": None, "mean_entropy": None, "method": "trainer"}
    key = response_id(row["prompt"], row[name][0]["content"])
    return {"response_id": key, "logp": value, **unknown}


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with triples in two parts, a dropped row beside them, and their log-probs."""
    rows = [triple(number) for number in range(4)]
    triples = StageFolder(tmp_path / "runs/demo/build/triples", {"a": 1})
    triples.open(parts=2)
    dropped = [{"prompt_id": "p", "source": "", "index": -1, "reason": "code", "detail": ""}]
    for part in range(2):
        triples.write_part(part, rows[2 * part : 2 * part + 2], TRIPLES, dropped=dropped)
    triples.finish_parts(2)
    logprobs = StageFolder(tmp_path / "runs/demo/logprobs/sft/triples", {"a": 2})
    logprobs.open()
    made = [logprob(row, name, -n - 0.5) for n, row in enumerate(rows) for name in NAMES]
    logprobs.finish_parts(logprobs.write_table(list(reversed(made)), LOGPROBS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block.line))
def test_each_block_reads_all_rows_in_order(block: Any, run_folder: Path) -> None:
    names: dict[str, Any] = {}
    exec(block.text, names)
    assert list(names["rows"]["triple_id"]) == ["t0", "t1", "t2", "t3"]
    if "logprobs" in names:
        for name in NAMES:
            found = list(names["rows"][f"{name}_logp"])
            assert [math.floor(-value) for value in found] == [0, 1, 2, 3]


def test_every_tool_of_the_page_has_its_block() -> None:
    text = " ".join(block.text for block in BLOCKS)
    assert all(tool in text for tool in ("pandas", "datasets", "pyarrow", "polars", "duckdb"))

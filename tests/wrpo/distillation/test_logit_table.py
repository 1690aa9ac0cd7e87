"""Tables of distributions that lie on disk: the same numbers, and nothing of a token in memory."""

import gc
from pathlib import Path
from typing import Any

import pytest

from tests.support.tiny_models import tiny_tokenizer
from tests.wrpo.distillation.test_lessons import PLACE, SETTINGS, stored, triple
from wrpo.distillation.logit_table import LogitTable, map_tables
from wrpo.distillation.rows import Lessons
from wrpo.errors import DataError
from wrpo.pipeline.tables import TEACHER_LOGITS, Row, part_name, read_rows, write_parquet
from wrpo.plan.formulas import distribution_bytes
from wrpo.rows.token_ids import RowSettings
from wrpo.rows.truncation import TokenLimits


def written(folder: Path, rows: list[Row], *, parts: int = 2) -> Path:
    folder.mkdir()
    for part in range(parts):
        write_parquet(folder / part_name(part), rows[part::parts], TEACHER_LOGITS)
    return folder


def said(number: int, words: int) -> Row:
    row = triple(number)
    row["source_chosen"][0]["content"] = f"sea {number} " * words
    return row


def table_rows(rows: list[Row]) -> list[Row]:
    return [stored(row) | {"forwarded": 9} for row in rows]


def test_mapped_rows_are_those_of_the_parts(tmp_path: Path) -> None:
    rows = table_rows([said(number, 1 + number % 3) for number in range(7)])
    rows[2]["top_ids"][1], rows[2]["top_logps"][1] = [5], [-0.1]  # as of a small vocabulary
    rows[3] |= {name: [] for name in ("token_ids", "top_ids", "top_logps", "rest")}
    folder = written(tmp_path / "table", rows)
    table = map_tables({PLACE: folder}, into=tmp_path)[PLACE]
    assert {path.name for path in tmp_path.iterdir()} == {"table"}  # readable, and gone
    expected = {row["response_id"]: row for row in read_rows(folder, TEACHER_LOGITS)}
    assert {key: dict(row) for key, row in table.items()} == expected
    assert "another" not in table and len(table) == 7


def test_a_damaged_part_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    folder = written(tmp_path / "table", table_rows([triple(1)]), parts=1)
    (folder / part_name(0)).write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not readable as parquet"):
        map_tables({PLACE: folder}, into=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"table"}


def reachable(root: Any) -> int:
    """Python objects that are held by one, shared ones of the libraries left out."""
    found: set[int] = set()
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) not in found and isinstance(one, (list, tuple, dict, float, int, LogitTable)):
            found.add(id(one))
            waiting += gc.get_referents(one)
    return len(found)


def test_objects_in_memory_do_not_grow_with_tokens(tmp_path: Path) -> None:
    """Bounded by structure: as many for long responses as for short; lists of a token, or none."""
    held, plain = [], []
    for words in (1, 20):
        triples = [said(number, words) for number in range(6)]
        folder = written(tmp_path / str(words), table_rows(triples))
        table = map_tables({PLACE: folder}, into=tmp_path)[PLACE]
        lessons = Lessons(
            SETTINGS,
            {PLACE: table},
            student=tiny_tokenizer(),
            teachers={"one": tiny_tokenizer()},
            row_settings=RowSettings(SETTINGS.responses, TokenLimits(max_length=512)),
        )
        examples = lessons(triples)
        held.append(reachable([table.__dict__, lessons._tables, examples.__dict__]))
        plain.append(reachable(read_rows(folder, TEACHER_LOGITS)))
        tokens = lessons.positions
        (lesson,) = examples[3]["source_chosen_lessons"]
        assert lesson["logps"][0] == pytest.approx([-0.1, -3.0])
        assert not any("lessons" in name for name in examples.data.column_names)
    assert held[0] == held[1]
    assert plain[1] > 10 * plain[0]  # what it would be: the control
    each = table.nbytes / tokens
    assert distribution_bytes(2) <= each < distribution_bytes(2) + 8  # and the ids of responses

"""Nothing that a row says is lost in silence: it is used, the row is refused, or it is counted."""

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
from wrpo.errors import DataError
from wrpo.pipeline.tables import BUILT, Row
from wrpo.recipe.build import ImportedTable
from wrpo.rows.formats.base import row_formats

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)

CALL = [{"type": "function", "function": {"name": "get", "arguments": {"city": "Rome"}}}]


def user(text: Any) -> Row:
    return {"role": "user", "content": text}


def assistant(text: Any, **more: Any) -> Row:
    return {"role": "assistant", "content": text, **more}


def imported(table: str, *records: Row, **fields: Any) -> tuple[list[Row], list[str], dict]:
    """Rows, why others are dropped, and what is counted as unread."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        settings = ImportedTable.model_validate({"path": str(path), **fields})
        try:
            rows, dropped, unread = import_table(settings, table)
        except DataError as error:
            return [], [str(error)], {}
    for row in rows:
        assert row.pop("imported_from").startswith(f"{path} row ")
    return rows, [row["detail"] for row in dropped], dict(unread)


@pytest.mark.parametrize(
    ("record", "prompt"),
    [
        ({"input": "2 and 3"}, [user("Add.\n\n2 and 3")]),
        ({"input": " "}, [user("Add.")]),
        ({"context": "2 and 3"}, [user("Add.\n\n2 and 3")]),
        ({"history": [["Who?", "Ann"]]}, [user("Who?"), assistant("Ann"), user("Add.")]),
        ({"history": '[["Who?", "Ann"]]'}, [user("Who?"), assistant("Ann"), user("Add.")]),
        ({"system": "Be brief."}, [{"role": "system", "content": "Be brief."}, user("Add.")]),
    ],
)
def test_columns_beside_an_instruction_belong_to_the_prompt(record: Row, prompt: list[Row]) -> None:
    rows, _, unread = imported("sft", {"instruction": "Add.", "output": "5", **record})
    assert rows[0]["prompt"] == prompt and not unread


@pytest.mark.parametrize("said", ["", " ", "Be brief.", None])
@pytest.mark.parametrize("format", [None, "llama-factory"])
def test_a_system_column_is_said_once(said: str | None, format: str | None) -> None:
    turns = [] if said is None else [{"from": "system", "value": said}]
    record = {
        "system": "Be brief.",
        "conversations": [*turns, {"from": "human", "value": "hi"}],
        "chosen": {"from": "gpt", "value": "yes"},
        "rejected": {"from": "gpt", "value": "no"},
    }
    rows, _, _ = imported("pairs", record, format=format)
    assert rows[0]["prompt"] == [{"role": "system", "content": "Be brief."}, user("hi")]
    turn = [{"from": "system", "value": "Ramble."}, *record["conversations"][-1:]]
    assert "different things" in imported("pairs", {**record, "conversations": turn})[1][0]


@pytest.mark.parametrize("content", [["a", "b"], [{"type": "text", "text": "ab"}], "ab"])
def test_parts_of_text_are_text(content: Any) -> None:
    record = {"messages": [user(content), assistant(content)]}
    rows, _, _ = imported("sft", record)
    assert (rows[0]["prompt"], rows[0]["completion"]) == ([user("ab")], [assistant("ab")])


def test_parts_that_are_no_text_are_refused() -> None:
    image = [{"type": "image", "text": "", "url": "x"}, {"type": "text", "text": "ab"}]
    rows, (reason,), _ = imported("sft", {"messages": [user(image), assistant("b")]})
    assert not rows and "not {role, content} of text" in reason


@pytest.mark.parametrize(
    "asked", ["\n\nHuman: Hi\n\nAssistant:", "Q: Hi\nA:", "Hi\n### Response:\n"]
)
def test_responses_that_repeat_the_transcript_lose_it(asked: str) -> None:
    record = {"prompt": asked, "chosen": f"{asked} Hello", "rejected": f"{asked} Go"}
    rows, _, _ = imported("pairs", record)
    assert (rows[0]["chosen"], rows[0]["rejected"]) == ([assistant(" Hello")], [assistant(" Go")])
    rows, _, _ = imported("sft", {"prompt": asked, "completion": f"{asked} Hello"})
    assert rows[0]["completion"] == [assistant(" Hello")]


def test_responses_that_may_repeat_the_prompt_are_refused_unless_it_is_chance() -> None:
    asked = "Once upon a time there was"
    pair = {"prompt": asked, "chosen": f"{asked} a", "rejected": f"{asked} b"}
    assert "begin with the prompt" in imported("pairs", pair)[1][0]
    for first, second in (("Hi you", "Go"), ("a", "b"), ("Hi you", "Hi there")):
        assert imported("pairs", {"prompt": "Hi", "chosen": first, "rejected": second})[0]
    assert imported("sft", {"prompt": "Hi", "completion": "Hi you"})[0]


@pytest.mark.parametrize(
    ("table", "record"),
    [
        (
            "sft",
            {"messages": [user("a"), assistant("", tool_calls=CALL), user("b"), assistant("c")]},
        ),
        ("sft", {"messages": [user("a"), assistant("I look.", tool_calls=CALL)]}),
        ("sft", {"messages": [user("a"), assistant("4", reasoning_content="two and two")]}),
        ("sft", {"messages": [user("a"), assistant("4")], "tools": [{"name": "get"}]}),
        ("sft", {"prompt": "a", "completion": "4", "reasoning_content": "two and two"}),
        ("sft", {"prompt": "a", "completion": "4", "images": ["x.png"]}),
        ("pairs", {"prompt": "a", "chosen": [assistant("b", tool_calls=CALL)], "rejected": "c"}),
        (
            "triples",
            {
                "prompt": [user("a")],
                "chosen": [assistant("b", tool_calls=CALL), assistant("c")],
                "rejected": [assistant("d")],
            },
        ),
    ],
)
def test_what_no_row_keeps_is_refused_by_name_unless_it_is_ignored(table: str, record: Row) -> None:
    _, (reason,), _ = imported(table, record)
    name = reason.split("ignore: [")[1].split("]")[0]
    rows, dropped, _ = imported(table, record, ignore=[name])
    assert len(rows) == 1 or "empty" in dropped[0]


def test_empty_tool_columns_are_nothing() -> None:
    record = {"messages": [{**user("a"), "tool_calls": None}, assistant("b", tool_calls=[])]}
    rows, dropped, unread = imported("sft", {**record, "tools": "", "images": []})
    assert (len(rows), dropped, unread) == (1, [], {})


def test_two_pairs_that_differ_in_a_call_are_not_called_the_same_text() -> None:
    other = json.loads(json.dumps(CALL).replace("Rome", "Oslo"))
    record = {
        "prompt": "a",
        "chosen": [assistant("b", tool_calls=CALL)],
        "rejected": [assistant("b", tool_calls=other)],
    }
    assert "tool_calls" in imported("pairs", record)[1][0]


def test_a_prompt_that_its_conversation_does_not_have_is_refused() -> None:
    turns = {"chosen": [user("a"), assistant("b")], "rejected": [user("a"), assistant("c")]}
    assert imported("pairs", {"prompt": "a", **turns})[0]
    assert "prompt" in imported("pairs", {"prompt": "Another.", **turns})[1][0]


def test_cells_of_csv_that_are_messages_are_read_as_messages(tmp_path: Path) -> None:
    turns = [user("q"), assistant("a")]
    cells = {
        "json": (json.dumps(turns), json.dumps([user("q"), assistant("no")]), "0.5"),
        "python": (str(turns), str(turns), "0.5"),
    }
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["chosen", "rejected", "chosen_score"], *cells.values()])
    rows, dropped, *_ = import_table(ImportedTable(path=str(path)), "pairs")
    assert (rows[0]["prompt"], rows[0]["chosen"]) == ([user("q")], [assistant("a")])
    assert rows[0]["chosen_score"] == 0.5
    assert "not as JSON" in dropped[0]["detail"] and f"{path} row 2" in dropped[0]["detail"]


def test_json_that_is_no_message_stays_text() -> None:
    for text in ('[{"value": 3}]', '{"role": "x"}', "[1, 2]", '{"role": "user"}'):
        rows, _, _ = imported("sft", {"prompt": "Give JSON.", "completion": text})
        assert rows[0]["completion"] == [assistant(text)]


BASES: dict[str, tuple[str, Row]] = {
    "prompt and completion": ("sft", {"prompt": "hi", "completion": "hello"}),
    "alpaca": ("sft", {"instruction": "hi", "output": "hello"}),
    "conversation": ("sft", {"messages": [user("hi"), assistant("hello")]}),
    "sharegpt": (
        "sft",
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
    ),
    "pair": (
        "pairs",
        {"prompt": [user("hi")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
    ),
    "whole pair": (
        "pairs",
        {"chosen": [user("hi"), assistant("a")], "rejected": [user("hi"), assistant("b")]},
    ),
    "authors": (
        "triples",
        {
            "prompt": [user("hi")],
            "chosen": [assistant("a"), assistant("b")],
            "rejected": [assistant("c")],
        },
    ),
    **{
        name: (
            "triples",
            known.write(
                {
                    "prompt_id": "theirs",
                    "prompt": [user("hi")],
                    **{
                        key: value
                        for response in ("source_chosen", "chosen", "rejected")
                        for key, value in (
                            (response, [assistant(response)]),
                            (f"{response}_score", 0.5),
                        )
                    },
                }
            ),
        )
        for name, known in row_formats().items()
        if known.writes
    },
}
NAMES = st.one_of(
    st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=8),
    st.sampled_from(
        [
            *("system", "history", "input", "context", "tools", "tool_calls", "images", "output"),
            *("messages", "conversations", "prompt", "question", "instruction", "response"),
            *("completion", "chosen", "rejected", "source_chosen", "reasoning_content", "thinking"),
            *("score", "chosen_score", "index", "chosen_index", "source", "model", "chosen_model"),
            *("all_generated_responses", "all_rm_scores", "weight", "name", "from", "value"),
            *("role", "content", "type", "text"),
        ]
    ),
)
VALUES = st.one_of(
    st.just("Extra text."),
    st.just(["Extra text."]),
    st.just({"text": "Extra text."}),
    st.just([user("Extra text.")]),
    st.just([assistant("Extra text.")]),
    st.just([["Extra text.", "More."]]),
)


def with_extra(base: Row, name: str, value: Any, places: st.DataObject) -> Row:
    """The row with a further column, or with a further key in one of its messages."""
    record: Row = json.loads(json.dumps(base))
    turns = [
        turn
        for value in record.values()
        for turn in (value if isinstance(value, list) else [value])
        if isinstance(turn, dict)
    ]
    holder = places.draw(st.sampled_from([record, *turns]))
    holder.setdefault(name, value)
    return record


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("base", BASES)
@few
@given(name=NAMES, value=VALUES, places=st.data())
def test_a_further_column_or_key_changes_the_row_or_is_refused_or_counted(
    base: str, named: bool, name: str, value: Any, places: st.DataObject
) -> None:
    table, record = BASES[base]
    fields = {"format": base} if named and base in row_formats() else {}
    before, reasons, counted = imported(table, record, **fields)
    assert before and not reasons
    richer = with_extra(record, name, value, places)
    after, reasons, unread = imported(table, richer, **fields)
    assert richer == record or after != before or reasons or unread != counted


KINDS: dict[str, Callable[[Path, Row], None]] = {
    "jsonl": lambda path, row: path.write_text(json.dumps(row)) and None,
    "json": lambda path, row: path.write_text(json.dumps([row])) and None,
    "parquet": lambda path, row: pq.write_table(pa.Table.from_pylist([row]), path),
}


@pytest.mark.parametrize("kind", KINDS)
def test_unread_names_are_counted_in_files_of_all_kinds(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{kind}"
    turns = [user("hi"), {**assistant("hello"), "weight": "0"}]
    KINDS[kind](path, {"messages": turns, "licence": "mit", "empty": ""})
    found = import_table(ImportedTable(path=str(path)), "sft")
    assert found.unread == {"messages[].weight": 1, "licence": 1}
    assert set(found.rows[0]) == set(BUILT["sft"].names)

import json
import math
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_construction.prompts import collect, make_prompts
from wrpo.errors import DataError, MissingInputError
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_parquet, read_rows
from wrpo.recipe import Recipe, load_recipe


def dataset(path: Path, **columns: object) -> dict[str, object]:
    return {"datasets": {"d": {"path": str(path), "prompt": "text", **columns}}}


def recipe_for(write_recipe: Callable[..., Path], prompts: dict[str, object]) -> Recipe:
    return load_recipe(write_recipe(prompts=4) if not prompts else _with(write_recipe, prompts))


def _with(write_recipe: Callable[..., Path], prompts: dict[str, object]) -> Path:
    import yaml

    path = write_recipe()
    recipe = yaml.safe_load(path.read_text())
    recipe["prompts"] = prompts
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_prompts_carry_messages_gold_answer_domain_and_origin(write_recipe) -> None:
    rows, dropped = collect(load_recipe(write_recipe(prompts=3)))
    assert not dropped
    row = next(row for row in rows if row["messages"][0]["content"] == "Say hill 1.")
    assert (row["reference_answer"], row["domain"], row["origin"]) == ("hill", "k1", "words")


def test_split_does_not_move_when_data_is_added(write_recipe) -> None:
    few = {r["prompt_id"]: r["split"] for r in collect(load_recipe(write_recipe(prompts=50)))[0]}
    many = {r["prompt_id"]: r["split"] for r in collect(load_recipe(write_recipe(prompts=200)))[0]}
    assert {key: many[key] for key in few} == few
    assert 0.2 < list(many.values()).count("sft") / 200 < 0.47


def test_bad_rows_are_dropped_with_reason_and_place(write_recipe, tmp_path: Path) -> None:
    file = tmp_path / "mixed.jsonl"
    good = [json.dumps({"text": f"good {n}"}).encode() for n in range(12)]
    bad = [b'{"text": "\xff"}', b"not json", b'{"other": 1}', b'{"text": "  "}', b"[1]"]
    repeated = b'{"text": " good 0 "}'
    file.write_bytes(b"\n".join([*good, *bad, repeated]))
    rows, dropped = collect(recipe_for(write_recipe, dataset(file)))
    assert len(rows) == 12
    assert [row["reason"] for row in dropped] == ["unusable"] * 5 + ["duplicate"]
    assert "row 13" in dropped[0]["detail"] and "UTF-8" in dropped[0]["detail"]


def test_a_byte_order_mark_costs_no_row(write_recipe, tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"text": "first"}\n{"text": "second"}\n', encoding="utf-8-sig")
    rows, dropped = collect(recipe_for(write_recipe, dataset(file)))
    assert len(rows) == 2 and not dropped


def test_a_quote_that_nothing_closes_takes_no_rows_with_it(write_recipe, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text('text,id\nfirst,1\n"second,2\nthird,3\n')
    with pytest.raises(DataError, match=r"p\.csv: not a CSV file after line 2: unexpected end"):
        collect(recipe_for(write_recipe, dataset(file)))


@pytest.mark.parametrize("field", ["reference_answer", "domain"])
def test_a_column_that_no_row_has_is_a_clear_error(field: str, write_recipe, tmp_path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"text": "first"}\n{"text": "second", "right": "yes"}\n')
    with pytest.raises(DataError, match=f'd.{field}: no row .* "rihgt"; they have: right, text'):
        collect(recipe_for(write_recipe, dataset(file, **{field: "rihgt"})))
    rows, _ = collect(recipe_for(write_recipe, dataset(file, **{field: "right"})))
    assert sorted(str(row[field]) for row in rows) == sorted(
        ["yes", "None" if field == "reference_answer" else "d"]
    )


@pytest.mark.parametrize(
    "prompt",
    [
        "hello",
        {"role": "user", "content": "hello"},
        [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}],
    ],
)
def test_a_prompt_column_is_text_one_message_or_messages(write_recipe, tmp_path, prompt) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"text": prompt}))
    rows, _ = collect(recipe_for(write_recipe, dataset(file)))
    assert rows[0]["messages"][-1] == {"role": "user", "content": "hello"}


def test_parquet_csv_and_json_give_the_same_prompts_as_jsonl(write_recipe, tmp_path) -> None:
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    records = [{"text": f"question {n}"} for n in range(5)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    (tmp_path / "a.json").write_text(json.dumps(records))
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "a.parquet")
    with (tmp_path / "a.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["text"])
        writer.writeheader()
        writer.writerows(records)
    ids = [
        [row["prompt_id"] for row in collect(recipe_for(write_recipe, dataset(file)))[0]]
        for file in sorted(tmp_path.glob("a.*"))
    ]
    assert len(ids) == 4 and all(found == ids[0] for found in ids)


def test_a_missing_file_and_a_file_without_prompts_are_clear_errors(write_recipe, tmp_path) -> None:
    with pytest.raises(MissingInputError, match="no file"):
        collect(recipe_for(write_recipe, dataset(tmp_path / "none.jsonl")))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="no usable prompt"):
        collect(recipe_for(write_recipe, dataset(tmp_path / "empty.jsonl")))


def test_too_many_dropped_rows_stop_the_stage_and_keep_the_reasons(write_recipe, tmp_path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"text": "ok"}\n' + '{"text": ""}\n' * 3)
    recipe = recipe_for(write_recipe, dataset(file))
    with pytest.raises(DataError, match="max_dropped_share"):
        make_prompts(recipe)
    folder = Pipeline(recipe).folder("prompts")
    assert len(read_parquet(folder / "dropped.parquet")) == 3
    assert Pipeline(recipe).state("prompts") == "missing"  # other settings may have the folder


def test_a_second_start_leaves_a_complete_stage_alone(write_recipe) -> None:
    recipe = load_recipe(write_recipe())
    make_prompts(recipe)
    folder = Pipeline(recipe).folder("prompts")
    before = (folder / "manifest.json").stat().st_mtime_ns
    make_prompts(recipe)
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    assert len(read_rows(folder)) == 12


def test_filtered_contaminated_and_near_duplicate_prompts_carry_reasons_and_are_counted(
    write_recipe, tmp_path
) -> None:
    base = "tell me about the long road from the hill to the sea in the rain"
    texts = [f"{base} please", f"{base} now", "Write a Python function", "why is the sky blue ok"]
    texts += [f"question {n} about something" for n in range(4)]
    file = tmp_path / "p.jsonl"
    file.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    (tmp_path / "quiz.jsonl").write_text('{"question": "Why is the sky blue?"}')
    quiz = {"path": str(tmp_path / "quiz.jsonl"), "column": "question"}
    prompts = {
        **dataset(file),
        "filters": {"remove_code": True},
        "decontaminate": {"benchmarks": {"quiz": quiz}, "ngram": 5},
        "near_duplicates": {},
        "max_dropped_share": 0.0,
    }
    recipe = recipe_for(write_recipe, prompts)
    make_prompts(recipe)
    folder = Pipeline(recipe).folder("prompts")
    dropped = {row["reason"]: row for row in read_parquet(folder / "dropped.parquet")}
    assert dropped.keys() == {"code", "contaminated", "near_duplicate"}
    assert dropped["contaminated"]["detail"] == "quiz: why is the sky blue"
    kept = {row["prompt_id"] for row in read_rows(folder)}
    near = dropped["near_duplicate"]
    assert len(kept) == 5 and near["detail"].split()[1].strip(",") in kept
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["dropped_reasons"] == {"code": 1, "contaminated": 1, "near_duplicate": 1}


def test_steps_that_are_off_leave_the_key_alone_and_benchmarks_enter_by_content(
    write_recipe, tmp_path
) -> None:
    plain = Pipeline(load_recipe(write_recipe())).key("prompts")
    assert plain.keys() == {"seed", "datasets", "sft_share", "inputs"}
    quiz = tmp_path / "quiz.jsonl"
    benchmarks = {"benchmarks": {"quiz": {"path": str(quiz), "column": "q"}}}
    keys = []
    for text in ("one", "two"):
        quiz.write_text(json.dumps({"q": text}))
        prompts = {**dataset(tmp_path / "prompts.jsonl"), "decontaminate": benchmarks}
        keys.append(Pipeline(recipe_for(write_recipe, prompts)).key("prompts"))
    assert keys[0] != keys[1]


def test_a_folder_of_files_and_a_saved_dataset_give_the_same_prompts(
    write_recipe, tmp_path
) -> None:
    from datasets import Dataset, DatasetDict

    records = [{"text": f"question {n}"} for n in range(6)]
    folder = tmp_path / "files"
    folder.mkdir()
    for name, part in (("a", records[:3]), ("b", records[3:])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    Dataset.from_list(records).save_to_disk(tmp_path / "saved")
    DatasetDict({"train": Dataset.from_list(records)}).save_to_disk(tmp_path / "splits")
    found = [
        collect(recipe_for(write_recipe, dataset(tmp_path / name)))[0]
        for name in ("files", "saved", "splits")
    ]
    assert len(found[0]) == 6 and found[0] == found[1] == found[2]
    with pytest.raises(MissingInputError, match="no split test"):
        collect(recipe_for(write_recipe, dataset(tmp_path / "splits", split="test")))


def two_datasets(tmp_path: Path, **second: object) -> dict[str, object]:
    """`talk` and `sums`, forty prompts each; the second with further settings."""
    found: dict[str, object] = {}
    for name, text in (("talk", "Talk about {}, please."), ("sums", "What is {} + 1?")):
        lines = [json.dumps({"text": text.format(n), "gold": str(n + 1)}) for n in range(40)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
        found[name] = {"path": str(tmp_path / f"{name}.jsonl"), "prompt": "text"}
    found["sums"] = {**found["sums"], **second}  # type: ignore[dict-item]
    return found


def test_a_dataset_has_its_own_domain_filters_and_share(write_recipe, tmp_path) -> None:
    own = {"domain_name": "maths", "filters": {}, "sft_share": 0.75}
    prompts = {"datasets": two_datasets(tmp_path, **own), "filters": {"remove_math": True}}
    rows, dropped = collect(recipe_for(write_recipe, prompts))
    assert not dropped and {(r["origin"], r["domain"]) for r in rows} == {
        ("talk", "talk"),
        ("sums", "maths"),
    }
    sft = dict.fromkeys(("talk", "sums"), 0)
    for row in rows:
        sft[row["origin"]] += row["split"] == "sft"
    assert sft["talk"] < 20 < sft["sums"] < 40
    everything = {"datasets": two_datasets(tmp_path, sft_share=1), "filters": {"remove_math": True}}
    _, dropped = collect(recipe_for(write_recipe, everything))
    assert [row["reason"] for row in dropped] == ["math"] * 40


def test_a_share_of_one_leaves_no_preference_prompt_and_moves_no_other(
    write_recipe, tmp_path
) -> None:
    splits = []
    for share in ({}, {"sft_share": 1.0}):
        prompts = {"datasets": two_datasets(tmp_path, **share)}
        rows, _ = collect(recipe_for(write_recipe, prompts))
        splits.append({r["prompt_id"]: r["split"] for r in rows if r["origin"] == "talk"})
    assert splits[0] == splits[1]
    assert {row["split"] for row in rows if row["origin"] == "sums"} == {"sft"}


def test_max_prompts_keeps_a_choice_that_is_not_the_split(write_recipe, tmp_path) -> None:
    prompts = {"datasets": two_datasets(tmp_path, max_prompts=15)}
    rows, dropped = collect(recipe_for(write_recipe, prompts))
    kept = [row for row in rows if row["origin"] == "sums"]
    assert len(kept) == 15 and len(rows) == 55
    assert [row["reason"] for row in dropped] == ["beyond_max_prompts"] * 25
    assert {row["split"] for row in kept} == {"sft", "preference"}
    fewer = {"datasets": two_datasets(tmp_path, max_prompts=9)}
    rows, _ = collect(recipe_for(write_recipe, fewer))
    assert {r["prompt_id"] for r in rows if r["origin"] == "sums"} < {r["prompt_id"] for r in kept}


def test_repeated_prompts_of_a_dataset_with_answers_are_no_loss(write_recipe, tmp_path) -> None:
    file = tmp_path / "p.jsonl"
    rows = [{"text": "2 + 2?", "solution": f"4, says {n}"} for n in range(6)]
    file.write_text("\n".join(map(json.dumps, rows)))
    responses = {"column": "solution", "source": "teacher"}
    kept, dropped = collect(recipe_for(write_recipe, dataset(file, responses=responses)))
    assert len(kept) == 1 and not dropped


def test_the_input_column_follows_the_prompt(write_recipe, tmp_path) -> None:
    rows = [
        {"text": "Translate.", "more": "sea"},
        {"text": "Sing.", "more": ""},
        {"text": "Hum.", "more": None},
        {"text": "Say.", "more": ["x"]},
        {"text": "No column."},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    kept, dropped = collect(recipe_for(write_recipe, dataset(tmp_path / "p.jsonl", input="more")))
    texts = {row["messages"][0]["content"] for row in kept}
    assert texts == {"Translate.\n\nsea", "Sing.", "Hum."}
    assert ["list, not text" in dropped[0]["detail"], '"more"' in dropped[1]["detail"]] == [
        True
    ] * 2


def test_a_row_that_is_not_utf8_does_not_take_the_file_with_it(write_recipe, tmp_path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.csv").write_bytes(b"text,gold\ngood,1\nb\xffd,2\nfine,3\nextra,4,5\n")
    (tmp_path / "a.json").write_bytes(
        b'[{"text": "good"}, {"text": "b\xffd"}, {"text": "\\ud800"}, {"text": "fine"}]'
    )
    raw = pa.array([b"good", b"b\xffd", b"fine"]).cast(pa.binary())
    column = pa.StringArray.from_buffers(3, *raw.buffers()[1:])
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    for name, bad in (("csv", 2), ("json", 2), ("parquet", 1)):
        rows, dropped = collect(recipe_for(write_recipe, dataset(tmp_path / f"a.{name}")))
        assert {row["messages"][0]["content"] for row in rows} == {"good", "fine"}, name
        assert [row["reason"] for row in dropped] == ["unusable"] * bad, name


def test_a_gold_answer_that_cannot_be_written_drops_its_row(write_recipe, tmp_path) -> None:
    (tmp_path / "p.jsonl").write_text('{"text": "a", "gold": "\\ud800"}\n{"text": "b", "gold": 2}')
    rows, dropped = collect(
        recipe_for(write_recipe, dataset(tmp_path / "p.jsonl", reference_answer="gold"))
    )
    assert [row["reference_answer"] for row in rows] == ["2"]
    assert "not valid Unicode" in dropped[0]["detail"]


def test_a_reference_answer_may_be_a_list_an_object_or_several_columns(
    write_recipe, tmp_path
) -> None:
    row = {"text": "a", "test": ["assert é() == 1", "assert é()"], "entry_point": "é", "none": None}
    (tmp_path / "p.jsonl").write_text(json.dumps(row))

    def read(columns: object) -> str | None:
        given = dataset(tmp_path / "p.jsonl", reference_answer=columns)
        [found], _ = collect(recipe_for(write_recipe, given))
        return found["reference_answer"]

    assert json.loads(read("test") or "") == row["test"]
    several = ["test", "entry_point", "none"]
    assert json.loads(read(several) or "") == {name: row[name] for name in several[:2]}
    assert read("entry_point") == "é" and read("none") is None and read(["none"]) is None
    with pytest.raises(DataError, match='"tests"'):
        read(["entry_point", "tests"])


def test_columns_of_reference_answers_and_domains_are_typed(
    write_recipe: Callable[..., Path],
) -> None:
    cells: list[tuple[object, object]] = [
        (42.0, "42"),
        (None, None),
        (0.5, "0.5"),
        (math.nan, None),
    ]
    path = write_recipe(prompts=4)
    table = pa.table(
        {
            "text": [f"Question {n}?" for n in range(len(cells))],
            "gold": pa.array([cell for cell, _ in cells], pa.float64()),
            "kind": pa.array([1.0, 2.0, None, math.nan], pa.float64()),
        }
    )
    pq.write_table(table, path.parent / "own.parquet")
    dataset = {
        "path": str(path.parent / "own.parquet"),
        "prompt": "text",
        "reference_answer": "gold",
        "domain": "kind",
    }
    rows, dropped = collect(load_recipe(path, [f"prompts.datasets={json.dumps({'own': dataset})}"]))
    found = {row["messages"][0]["content"]: row for row in rows}
    assert not dropped
    assert [found[f"Question {n}?"]["reference_answer"] for n in range(4)] == [
        text for _, text in cells
    ]
    assert [found[f"Question {n}?"]["domain"] for n in range(4)] == ["1", "2", "own", "own"]


def test_a_cell_that_stands_for_no_text_is_dropped_with_the_reason(
    write_recipe: Callable[..., Path],
) -> None:
    path = write_recipe(prompts=4)
    rows = [{"text": "One?", "gold": True}, {"text": "Two?", "gold": "yes"}]
    data = path.parent / "own.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = {"path": str(data), "prompt": "text", "reference_answer": "gold"}
    kept, dropped = collect(load_recipe(path, [f"prompts.datasets={json.dumps({'own': dataset})}"]))
    assert [row["reference_answer"] for row in kept] == ["yes"]
    [drop] = dropped
    assert drop["reason"] == "unusable" and "row 1: gold: boolean True" in drop["detail"]

import json
from pathlib import Path

import pytest
import yaml

from data_construction.build import build_table
from data_construction.datasets.published import import_table, published_preference_row, sft_row
from wrpo.errors import DataError, MissingInputError, RecipeError
from wrpo.ids import prompt_id
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import ROW_RESPONSES, Drop, read_parquet, read_rows
from wrpo.recipe import load_recipe
from wrpo.recipe.build import ImportedTable
from wrpo.rows.formats.base import in_our_columns


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_armorm_rows_give_pairs_with_index_and_score() -> None:
    record = {
        "prompt_id": "theirs",
        "prompt": "Say sea.",
        "all_generated_responses": ["a", "b", "c"],
        "all_rm_scores": [0.1, 0.3, 0.2],
        "chosen": [user("Say sea."), assistant("b")],
        "rejected": [user("Say sea."), assistant("a")],
    }
    row = published_preference_row(record, ROW_RESPONSES["pairs"])
    assert row["prompt"] == [user("Say sea.")] and row["prompt_id"] == prompt_id(row["prompt"])
    assert (row["chosen"], row["rejected"]) == ([assistant("b")], [assistant("a")])
    assert (row["chosen_index"], row["chosen_score"], row["rejected_score"]) == (1, 0.3, 0.1)


@pytest.mark.parametrize("prompt", [user("hi"), [user("hi")], "hi"])
def test_wrpo_rows_give_triples(prompt: object) -> None:
    record = {
        "prompt": prompt,
        "chosen": [assistant("ws"), assistant("wt")],
        "rejected": [assistant("l")],
    }
    row = published_preference_row(in_our_columns(record), ROW_RESPONSES["triples"])
    assert [row[name][0]["content"] for name in ROW_RESPONSES["triples"]] == ["ws", "wt", "l"]
    assert row["prompt"] == [user("hi")]
    assert (row["chosen_score"], row["chosen_index"], row["chosen_source"]) == (None, -1, "unknown")


def test_sharegpt_rows_give_sft_rows_and_pairs() -> None:
    turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    assert sft_row({"conversations": turns})["completion"] == [assistant("hello")]
    pair = {"conversations": turns[:1], "chosen": turns[1], "rejected": "go away"}
    row = published_preference_row(pair, ROW_RESPONSES["pairs"])
    assert (row["prompt"], row["chosen"]) == ([user("hi")], [assistant("hello")])


def test_sft_rows_keep_system_and_earlier_turns() -> None:
    before = [{"role": "system", "content": "s"}, user("a"), assistant("b"), user("c")]
    assert sft_row({"messages": [*before, assistant("d")]})["prompt"] == before
    assert sft_row({"prompt": before, "response": "d"})["prompt"] == before


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"prompt": "hi", "chosen": "a"}, "no rejected; it has: prompt, chosen"),
        ({"chosen": "a", "rejected": "b"}, "no prompt .looked for"),
        ({"prompt": "hi", "chosen": "a", "rejected": "a"}, "same text"),
        (
            {"chosen": [user("x"), assistant("a")], "rejected": [user("y"), assistant("b")]},
            "different prompts",
        ),
        ({"prompt": "hi", "chosen": [user("x")], "rejected": "b"}, "not the assistant's"),
        ({"prompt": "hi", "chosen": " ", "rejected": "b"}, "a response is empty"),
        (
            {"prompt": "hi", "chosen": "a", "rejected": "b", "unfinished": ["source_chosen"]},
            "unfinished must be a list of names out of chosen, rejected",
        ),
    ],
)
def test_rows_that_are_no_pairs_say_why(record: dict[str, object], reason: str) -> None:
    with pytest.raises(Drop, match=reason):
        published_preference_row(record, ROW_RESPONSES["pairs"])


def test_a_pair_data_set_is_no_triple_data_set() -> None:
    record = {"prompt": "hi", "chosen": "a", "rejected": "b"}
    with pytest.raises(Drop, match="no source_chosen"):
        published_preference_row(record, ROW_RESPONSES["triples"])


def test_columns_can_be_named_and_repeated_rows_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    record = {"q": "hi", "good": "a", "bad": "b", "points": 2}
    file.write_text("\n".join([json.dumps(record)] * 2))
    columns = {"prompt": "q", "chosen": "good", "rejected": "bad", "chosen_score": "points"}
    settings = ImportedTable.model_validate({"path": str(file), "columns": columns})
    rows, dropped, *_ = import_table(settings, "pairs")
    assert [row["chosen_score"] for row in rows] == [2.0]
    assert [row["reason"] for row in dropped] == ["duplicate"]
    with pytest.raises(DataError, match=r"it has: q, good, bad, points.*columns"):
        import_table(ImportedTable(path=str(file)), "pairs")
    with pytest.raises(MissingInputError, match="build.imported.pairs: no file"):
        import_table(ImportedTable(path=str(tmp_path / "none.jsonl")), "pairs")


@pytest.fixture
def imported_recipe(write_recipe, tmp_path: Path) -> Path:
    """A recipe whose SFT rows and triples are imported."""
    triples = [
        {
            "prompt": [user(f"Say {n}.")],
            "chosen": [assistant(f"source {n}"), assistant(f"good {n}")],
            "rejected": [assistant(f"bad {n}")],
        }
        for n in range(6)
    ]
    responses = [{"prompt": f"Tell {n}.", "response": f"tale {n}"} for n in range(3)]
    for name, rows in (("triples", triples), ("sft", responses)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = write_recipe()
    recipe = yaml.safe_load(path.read_text())
    tables = {name: {"path": str(tmp_path / f"{name}.jsonl")} for name in ("sft", "triples")}
    recipe["build"] = {"imported": tables}
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_imported_tables_are_built_without_prompts_samples_and_scores(imported_recipe) -> None:
    recipe = load_recipe(imported_recipe)
    pipeline = Pipeline(recipe)
    assert list(pipeline.stages) == [
        "build/sft",
        "sft",
        "build/triples",
        "logprobs/sft/triples",
        "wrpo",
    ]
    build_table(recipe, "triples")
    build_table(recipe, "sft")
    assert pipeline.state("build/triples") == pipeline.state("build/sft") == "done"
    rows = read_rows(pipeline.finished("build/triples"))
    assert len(rows) == 6 and rows[0]["source_chosen"][0]["content"].startswith("source")
    with pytest.raises(RecipeError, match="no stage sample/one"):
        pipeline.key("sample/one")


def test_a_changed_file_makes_an_imported_table_stale(imported_recipe, tmp_path: Path) -> None:
    recipe = load_recipe(imported_recipe)
    build_table(recipe, "sft")
    (tmp_path / "sft.jsonl").write_text('{"prompt": "a", "response": "b"}')
    assert Pipeline(load_recipe(imported_recipe)).state("build/sft") == "stale"


def test_a_stage_that_a_table_needs_stays(imported_recipe) -> None:
    pipeline = Pipeline(load_recipe(imported_recipe, ["build.imported.sft=null"]))
    assert {"prompts", "sample/one", "score/two"} <= set(pipeline.stages)
    assert "sample/target" not in pipeline.stages


def test_imports_that_nothing_reads_or_that_need_sampling_are_refused(imported_recipe) -> None:
    with pytest.raises(RecipeError, match="no arm trains on pairs"):
        Pipeline(load_recipe(imported_recipe, ["build.imported.pairs={path: x.jsonl}"]))
    with pytest.raises(RecipeError, match="logprobs.method sampled"):
        load_recipe(imported_recipe, ["logprobs.method=sampled"])


def test_an_imported_row_that_the_template_cannot_render_is_dropped_alone(
    imported_recipe, tmp_path: Path
) -> None:
    strict = tmp_path / "strict.jinja"
    strict.write_text(
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    for name in ("sft", "triples"):
        path = tmp_path / f"{name}.jsonl"
        bad = {"prompt": [user("x"), user("y")], "response": "z", "rejected": "n"}
        bad["chosen"] = [assistant("a"), assistant("b")] if name == "triples" else None
        path.write_text(path.read_text() + "\n" + json.dumps(bad))
        recipe = load_recipe(
            imported_recipe,
            [f"target.chat_template={strict}", f"build.imported.{name}.max_dropped_share=0.3"],
        )
        build_table(recipe, name)
        folder = Pipeline(recipe).finished(f"build/{name}")
        (dropped,) = read_parquet(folder / "dropped.parquet")
        assert dropped["reason"] == "template"
        assert f"{path} row {len(path.read_text().splitlines())}: " in dropped["detail"]


def test_an_import_that_failed_leaves_its_folder_to_other_settings(
    imported_recipe, tmp_path: Path
) -> None:
    path = tmp_path / "sft.jsonl"
    path.write_text(json.dumps({"q": "a", "response": "b"}))
    with pytest.raises(DataError, match="no usable row"):
        build_table(load_recipe(imported_recipe), "sft")
    recipe = load_recipe(imported_recipe, ["build.imported.sft.columns={prompt: q}"])
    build_table(recipe, "sft")
    assert Pipeline(recipe).state("build/sft") == "done"


def test_a_name_that_no_row_has_is_refused(imported_recipe) -> None:
    recipe = load_recipe(imported_recipe, ["build.imported.sft.columns={score: typo}"])
    with pytest.raises(DataError, match='columns.score: no row .* has a column "typo"'):
        build_table(recipe, "sft")

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from datasets import load_dataset

from data_construction.build import build_table
from data_construction.export import export_table
from wrpo.chat.tokenizer import load_tokenizer
from wrpo.errors import DataError, MissingInputError
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import ROW_RESPONSES, read_rows
from wrpo.recipe import Recipe, load_recipe
from wrpo.rows.formats.base import row_formats
from wrpo.rows.formats.llama_factory import LlamaFactory
from wrpo.rows.formats.trl import TRL
from wrpo.rows.prepare import prepare_row
from wrpo.rows.token_ids import RowSettings

LAYOUTS = [
    name for name, known in row_formats().items() if known.writes and "triples" in known.tables
]


@pytest.fixture
def run(write_recipe: Callable[..., Path], tmp_path: Path) -> Recipe:
    """A run with built triples, of which one has a system text, and an SFT table not yet built."""
    rows = []
    for n in range(4):
        prompt = [{"role": "user", "content": f"Say “{n}”."}]
        if n == 0:
            prompt.insert(0, {"role": "system", "content": "Be kind."})
        responses = {
            "source_chosen": f"source {n}",
            "chosen": f"good\u2028{n}",
            "rejected": f"bad {n}",
        }
        scores = {f"{name}_score": place / 2 for place, name in enumerate(responses)}
        rows.append({"prompt": prompt, **responses, **scores, "source_chosen_source": "one"})
    (tmp_path / "triples.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = write_recipe()
    recipe = yaml.safe_load(path.read_text())
    recipe["build"] = {"imported": {"triples": {"path": str(tmp_path / "triples.jsonl")}}}
    path.write_text(yaml.safe_dump(recipe))
    loaded = load_recipe(path)
    build_table(loaded, "triples")
    return loaded


def loaded(folder: Path, cache: Path) -> list[dict]:
    return list(load_dataset(str(folder), split="train", cache_dir=str(cache)))


@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
def test_a_trl_export_loads_with_datasets_and_trains_on_the_same_tokens(
    run, tmp_path, file_format
) -> None:
    export_table(run, "triples", tmp_path / "out", file_format=file_format)
    rows = loaded(tmp_path / "out", tmp_path / "cache")
    built = read_rows(Pipeline(run).finished("build/triples"))
    assert rows == [{k: v for k, v in row.items() if k != "imported_from"} for row in built]
    tokenizer = load_tokenizer(run.target.model)
    for responses in ROW_RESPONSES.values():
        prepared = prepare_row(rows[0], tokenizer=tokenizer, settings=RowSettings(responses))
        assert prepared["chosen_ids"] and "rejected_ids" in prepared


def test_trls_own_formatting_accepts_a_trl_export(run, tmp_path) -> None:
    from trl.data_utils import is_conversational, maybe_apply_chat_template

    export_table(run, "triples", tmp_path / "out")
    row = loaded(tmp_path / "out", tmp_path / "cache")[0]
    row = {name: row[name] for name in ("prompt", "chosen", "rejected")}
    assert is_conversational(row)
    text = maybe_apply_chat_template(row, load_tokenizer(run.target.model))
    assert row["chosen"][0]["content"] in text["chosen"]


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_imports_back_to_the_same_preferences(run, tmp_path, layout, named) -> None:
    export_table(run, "triples", tmp_path / "out", layout=layout, file_format="jsonl")
    overrides = [f"build.imported.triples.path={tmp_path / 'out' / 'train.jsonl'}"]
    overrides += [f"build.imported.triples.format={layout}"] if named else []
    again = load_recipe(tmp_path / "recipe.yaml", ["run=again", *overrides])
    build_table(again, "triples")
    names = ("triple_id", "prompt", *ROW_RESPONSES["triples"])
    before, after = (
        {json.dumps([row[name] for name in names]) for row in rows}
        for rows in (
            read_rows(Pipeline(run).finished("build/triples")),
            read_rows(Pipeline(again).finished("build/triples")),
        )
    )
    assert before == after and len(before) == 4


def test_llama_factory_gets_turns_and_a_description_of_the_columns(run, tmp_path) -> None:
    folder = tmp_path / "out"
    export_table(run, "triples", folder, layout="llama-factory", file_format="jsonl")
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().split("\n") if line]
    first = next(row for row in rows if row["system"])
    assert first["system"] == "Be kind."
    assert first["conversations"] == [{"from": "human", "value": "Say “0”."}]
    assert first["rejected"] == {"from": "gpt", "value": "bad 0"}
    (entry,) = json.loads((folder / "dataset_info.json").read_text()).values()
    assert entry["ranking"] and entry["file_name"] == "train.jsonl"
    assert set(entry["columns"].values()) <= set(first)


def test_sft_rows_become_whole_conversations_for_llama_factory() -> None:
    turn = {"role": "user", "content": "hi"}
    row = {"prompt": [turn], "completion": [{"role": "assistant", "content": "hello"}]}
    assert LlamaFactory().write(row) == {
        "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}],
        "system": "",
    }


def test_the_card_counts_names_the_recipe_and_leaves_licences_to_fill_in(run, tmp_path) -> None:
    export_table(run, "triples", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["configs"][0]["data_files"][0]["path"] == "train.parquet"
    assert "license" not in header and "(fill in)" in text
    assert "- rows: 4" in text and "| source_chosen | one |" in text
    assert str(tmp_path) not in text and run.target.model not in text
    export_table(run, "triples", tmp_path / "licensed", licence="apache-2.0")
    text = (tmp_path / "licensed" / "README.md").read_text()
    assert yaml.safe_load(text.split("---")[1])["license"] == "apache-2.0"


@pytest.mark.parametrize(("layout", "warned"), [("trl", False), ("llama-factory", True)])
def test_responses_that_were_cut_are_counted_or_warned_of(
    run, tmp_path, caplog, layout: str, warned: bool
) -> None:
    data = tmp_path / "triples.jsonl"
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    rows[1]["unfinished"] = ["rejected"]
    data.write_text("\n".join(map(json.dumps, rows)))
    recipe = load_recipe(tmp_path / "recipe.yaml", ["run=cut"])
    build_table(recipe, "triples")
    export_table(recipe, "triples", tmp_path / "out", layout=layout)
    assert ("max_tokens cut a response of 1 rows" in caplog.text) == warned
    text = (tmp_path / "out" / "README.md").read_text()
    assert "- rows with a response that max_tokens cut: 1" in text
    assert [
        row["unfinished"] for row in read_rows(Pipeline(recipe).finished("build/triples"))
    ].count(["rejected"]) == 1


def test_an_export_overwrites_nothing_and_needs_a_built_table(run, tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not empty"):
        export_table(run, "triples", tmp_path / "full")
    with pytest.raises(DataError, match="holds triples, not sft"):
        export_table(run, "sft", tmp_path / "out", layout="wrpo")
    with pytest.raises(MissingInputError, match="build/sft"):
        export_table(run, "sft", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_export_leaves_nothing_behind(run, tmp_path, monkeypatch) -> None:
    def fails(self: TRL, row: dict) -> dict:
        raise OSError("disk full")

    monkeypatch.setattr(TRL, "write", fails)
    (tmp_path / "exports").mkdir()
    with pytest.raises(OSError):
        export_table(run, "triples", tmp_path / "exports" / "out")
    assert list((tmp_path / "exports").iterdir()) == []

"""Every field of a dataset section with every kind of path: honoured, or refused by name."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_construction.datasets.records import located_records
from wrpo.errors import DataError, MissingInputError, RecipeError
from wrpo.pipeline.tables import Row
from wrpo.recipe.prompts import BenchmarkTexts, Dataset

ROWS = [{"prompt": f"train {n}", "extra": "x"} for n in range(3)]
TEST = [{"prompt": "test 0", "extra": "x"}]


def lines(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def write(path: Path, rows: list[Row] = ROWS) -> Path:
    """A file of the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    packed = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    content = lines(rows)
    if ".csv" in path.suffixes:
        content = "".join(["prompt,extra\n", *(f"{r['prompt']},x\n" for r in rows)]).encode()
    elif ".json" in path.suffixes:
        content = json.dumps(rows).encode()
    path.write_bytes(packed.get(path.suffix, bytes)(content))
    return path


def splits(folder: Path) -> Path:
    write(folder / "train-00000-of-00001.parquet")
    write(folder / "test-00000-of-00001.parquet", TEST)
    return folder


def card(folder: Path) -> Path:
    """As a clone from the hub: what the splits of two configurations are stands in README.md."""
    for config in ("one", "two"):
        for split, rows in (("train", ROWS), ("test", TEST)):
            own = [{**row, "extra": config} for row in rows]
            write(folder / config / f"{split}-00000-of-00001.parquet", own)
    entries = [
        f"- config_name: {config}\n  data_files:\n"
        + "".join(f"  - split: {s}\n    path: {config}/{s}-*\n" for s in ("train", "test"))
        for config in ("one", "two")
    ]
    (folder / "README.md").write_text("---\nconfigs:\n" + "".join(entries) + "---\n# Data\n")
    return folder


def saved_splits(folder: Path) -> Path:
    tables = {"train": ROWS, "test": TEST}
    made = {name: datasets.Dataset.from_list(rows) for name, rows in tables.items()}
    datasets.DatasetDict(made).save_to_disk(folder)
    return folder


def saved(folder: Path) -> Path:
    datasets.Dataset.from_list(ROWS).save_to_disk(folder)
    return folder


def stage(folder: Path) -> Path:
    write(folder / "part-00000.parquet")
    (folder / "manifest.json").write_text("{}")
    write(folder / "dropped.parquet", TEST)
    return folder


FILES = ("a.jsonl", "a.json", "a.csv", "a.parquet", "a.jsonl.gz", "a.json.bz2", "a.csv.xz")
WHOLE: dict[str, Callable[[Path], Path]] = {
    **{name: lambda folder, name=name: write(folder / name) for name in FILES},
    "folder": lambda folder: write(folder / "folder" / "a.jsonl").parent,
    "saved": lambda folder: saved(folder / "saved"),
    "stage": lambda folder: stage(folder / "stage"),
}
SPLIT: dict[str, Callable[[Path], Path]] = {
    "splits": lambda folder: splits(folder / "splits"),
    "saved splits": lambda folder: saved_splits(folder / "saved"),
}


def read(path: Path | str, **fields: Any) -> list[str]:
    dataset = Dataset.model_validate({"path": str(path), **fields})
    return [record["prompt"] for _, record in located_records(dataset)]


@pytest.mark.parametrize("kind", [*WHOLE, *SPLIT])
def test_rows_and_their_places(kind: str, tmp_path: Path) -> None:
    path = {**WHOLE, **SPLIT}[kind](tmp_path)
    found = list(located_records(Dataset(path=str(path))))
    assert [row["prompt"] for _, row in found] == ["train 0", "train 1", "train 2"]
    places = [place for place, _ in found]
    assert all(place.startswith(str(path)) for place in places)
    assert [place.rpartition(" row ")[2] for place in places] == ["1", "2", "3"]


@pytest.mark.parametrize("kind", [*WHOLE, *SPLIT])
def test_format_and_ignore_are_honoured_wherever_rows_are(kind: str, tmp_path: Path) -> None:
    path = {**WHOLE, **SPLIT}[kind](tmp_path)
    ((_, row),) = islice(located_records(Dataset(path=str(path), ignore=["extra"])), 1)
    assert row == {"prompt": "train 0"}
    ((_, row),) = islice(located_records(Dataset(path=str(path), format="llama-factory")), 1)
    assert "not a row of format llama-factory" in row.detail


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("field", ["split", "config", "revision"])
@pytest.mark.parametrize("value", ["test", "train[:2]"])
def test_what_a_whole_table_does_not_have_is_refused(
    kind: str, field: str, value: str, tmp_path: Path
) -> None:
    path = WHOLE[kind](tmp_path)
    if (kind, field) == ("folder", "split"):
        with pytest.raises(MissingInputError, match=r"has no split .*; it has: train"):
            read(path, split=value)
        return
    match = "has no config" if (kind, field) == ("folder", "config") else f"take {field}: "
    with pytest.raises(RecipeError, match=match):
        read(path, **{field: value})


@pytest.mark.parametrize("kind", SPLIT)
def test_a_split_is_read_or_said_to_be_missing(kind: str, tmp_path: Path) -> None:
    path = SPLIT[kind](tmp_path)
    assert read(path, split="test") == ["test 0"]
    for other in ("validation", "train[:2]", "train+test"):
        with pytest.raises(
            MissingInputError, match=r"no split .*; it has: (train, test|test, train)"
        ):
            read(path, split=other)
    for field in ("config", "revision"):
        with pytest.raises(RecipeError, match="has no config|take "):
            read(path, **{field: "main"})


def test_configs_are_those_of_the_card(tmp_path: Path) -> None:
    path = card(tmp_path / "clone")
    for config in ("one", "two"):
        dataset = Dataset(path=str(path), config=config, split="test")
        assert [row["extra"] for _, row in located_records(dataset)] == [config]
    with pytest.raises(RecipeError, match="several configs: one, two"):
        read(path)
    with pytest.raises(RecipeError, match="no config three; it has: one, two"):
        read(path, config="three")
    with pytest.raises(MissingInputError, match="no split dev; it has: test, train"):
        read(path, config="one", split="dev")


@pytest.mark.parametrize(
    ("names", "split", "found"),
    [
        (("train_prefs-00000-of-00002", "train_prefs-00001-of-00002"), "train_prefs", (0, 1)),
        (("train_prefs-00000-of-00001", "train_sft-00000-of-00001"), "train_sft", (1,)),
        (("train_prefs-00000-of-00001", "test_prefs-00000-of-00001"), "train", (0,)),
        (("data/train-00000-of-00001-0a1b", "data/test-00000-of-00001-0a1b"), "train", (0,)),
        (("train/a", "test/a"), "train", (0,)),
        (("my-train", "my-dev"), "validation", (1,)),
        (("contest", "strain"), "train", (0, 1)),
        (("data-00000-of-00002", "data-00001-of-00002"), "train", (0, 1)),
        (("a", ".hidden/a", "dataset_infos"), "train", (0,)),
    ],
)
def test_names_of_files_say_their_split(
    names: tuple[str, ...], split: str, found: tuple[int, ...], tmp_path: Path
) -> None:
    for number, name in enumerate(names):
        write(tmp_path / f"{name}.jsonl", [{"prompt": str(number)}])
    assert sorted(read(tmp_path, split=split)) == [str(number) for number in found]


def test_a_file_that_belongs_to_no_split_is_named(tmp_path: Path) -> None:
    for name in ("train", "test", "more"):
        write(tmp_path / f"{name}.jsonl")
    with pytest.raises(DataError, match=r"more\.jsonl: other files .* named by their split"):
        read(tmp_path)


def test_benchmarks_in_files_without_a_split_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl")
    for path in (tmp_path, tmp_path / "a.jsonl"):
        assert len(list(located_records(BenchmarkTexts(path=str(path))))) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.jsonl.zst", "unpack or convert"),
        ("a.parquet.gz", "unpack or convert"),
        ("a.txt", "rows are read from"),
        ("a.arrow", "unpack or convert"),
    ],
)
def test_files_that_are_not_read_are_said_to_be(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)
    if not name.endswith(".txt"):
        with pytest.raises(DataError, match="may hold rows, and is not read"):
            read(tmp_path)


def test_json_lines_are_read_under_the_name_of_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(lines(ROWS))
    assert len(read(tmp_path / "a.json")) == 3


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_a_compressed_file_that_is_cut_short_or_damaged_is_named(
    ending: str, tmp_path: Path
) -> None:
    path = write(tmp_path / f"a.jsonl{ending}")
    whole = path.read_bytes()
    middle = len(whole) // 2
    turned = bytes([*whole[:middle], whole[middle] ^ 255, *whole[middle + 1 :]])
    for content in (whole[:-9], turned, b"not compressed"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"a\.jsonl\{ending}: cannot be decompressed"):
            list(located_records(Dataset(path=str(path))))


def test_paths_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is a pattern"):
        read(tmp_path / "*.jsonl")
    with pytest.raises(MissingInputError, match="no file or folder"):
        read(tmp_path / "none")
    with pytest.raises(MissingInputError, match="no file"):
        read("none.jsonl.gz")


def test_a_hub_name_is_loaded_with_all_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *args, **kwargs: asked.append((args, kwargs)) or ROWS
    )
    fields = {"config": "main", "split": "train[:2]", "revision": "v1"}
    assert len(read("owner/name", **fields)) == 3
    assert asked == [(("owner/name", "main"), {"split": "train[:2]", "revision": "v1"})]

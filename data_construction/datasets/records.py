"""The rows of a dataset and their places: a local file, a folder of files, or the hub."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_construction.datasets.files import KINDS, file_kind, read_file
from data_construction.datasets.messages import parsed_text
from data_construction.datasets.splits import split_files
from wrpo.errors import DataError, MissingInputError, RecipeError
from wrpo.files import is_file, is_folder, looks_local
from wrpo.pipeline.tables import Drop, parts
from wrpo.recipe.prompts import Dataset
from wrpo.rows.formats.base import in_our_columns

SAVED_BY_DATASETS = ("state.json", "dataset_dict.json")


def located_records(dataset: Dataset) -> Iterator[tuple[str, Any]]:
    """(place, row): file and number from 1, and the row in our columns where `format` is named.

    What `ignore` names is taken out. An unreadable row comes as the Drop that says why.

    Raises:
        MissingInputError: the file, the folder, the hub dataset or the split is not there.
        DataError: a file is damaged as a whole.
        RecipeError: a field of the dataset does not go with its path.
    """
    for name, records in _tables(dataset):
        for number, record in enumerate(records, start=1):
            yield f"{name} row {number}", _prepared(record, dataset)


def _prepared(record: Any, dataset: Dataset) -> Any:
    """What is no record of columns stays for the caller to refuse."""
    if not isinstance(record, dict):
        return record
    ignored = set(dataset.ignore or ())
    try:
        parsed = {name: parsed_text(value) for name, value in record.items() if name not in ignored}
        if ignored:
            parsed = {name: _without_keys(value, ignored) for name, value in parsed.items()}
        return parsed if dataset.format is None else in_our_columns(parsed, name=dataset.format)
    except Drop as drop:
        return drop
    except DataError as error:
        return Drop("unusable", str(error))


def _without_keys(value: Any, names: set[str]) -> Any:
    """Messages without some of their keys."""
    if isinstance(value, list):
        return [_without_keys(item, names) for item in value]
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if key not in names}
    return value


def _tables(dataset: Dataset) -> Iterator[tuple[str, Iterable[Any]]]:
    """The tables that a dataset is made of, by name."""
    path = Path(dataset.path)
    if is_file(path):
        _refuse(dataset, "split", "config", "revision", kind="a file, which is read whole")
        yield str(path), read_file(path)
    elif is_folder(path):
        for file, rows in _folder(path, dataset):
            yield str(file), rows
    elif any(letter in dataset.path for letter in "*?["):
        raise RecipeError(f"path: {dataset.path} is a pattern; name one file, or their folder")
    elif file_kind(path) or looks_local(dataset.path):
        raise MissingInputError(
            f"no file {path}" if file_kind(path) else f"no file or folder {path}"
        )
    else:
        yield dataset.path, _hub(dataset)


def _folder(path: Path, dataset: Dataset) -> Iterator[tuple[Path, Iterable[Any]]]:
    if any((path / name).is_file() for name in SAVED_BY_DATASETS):
        yield path, _saved(path, dataset)
        return
    files = parts(path)  # a stage folder, with its dropped rows and its manifest beside the parts
    if files:
        _refuse(dataset, "split", "config", "revision", kind="the folder of a stage")
    else:
        _refuse(dataset, "revision", kind="a folder")
        default = type(dataset).model_fields["split"].default
        files = split_files(path, config=dataset.config, split=dataset.split, default=default)
    for file in files:
        yield file, read_file(file)


def _saved(path: Path, dataset: Dataset) -> Iterable[Any]:
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(str(path))
    _refuse(dataset, "config", "revision", kind="saved by save_to_disk")
    if not isinstance(saved, DatasetDict):
        _refuse(dataset, "split", kind="saved by save_to_disk as one table")
        return saved
    if dataset.split not in saved:
        raise MissingInputError(f"{path} has no split {dataset.split}; it has: {', '.join(saved)}")
    return saved[dataset.split]


def _refuse(dataset: Dataset, *fields: str, kind: str) -> None:
    """Refuses fields that say something of a dataset of another kind."""
    for name in fields:
        value, default = getattr(dataset, name), type(dataset).model_fields[name].default
        if value != default:
            raise RecipeError(
                f"{dataset.path} is {kind}; take {name}: {value} out. `limit` takes the first rows"
            )


def _hub(dataset: Dataset) -> Iterable[Any]:
    from datasets import load_dataset

    try:
        return load_dataset(
            dataset.path, dataset.config, split=dataset.split, revision=dataset.revision
        )
    except Exception as error:  # datasets raises many unrelated types for a name it cannot load
        raise MissingInputError(
            f"cannot load dataset {dataset.path} ({type(error).__name__}: {error}); "
            f"check the name and the network, or give a file of {', '.join(KINDS)}"
        ) from None

"""Reads the rows of a dataset: local files of four formats, folders of them, or the hub."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrpo.errors import DataError, MissingInputError
from wrpo.files import is_file, is_folder
from wrpo.pipeline.tables import Drop, parts
from wrpo.recipe.prompts import Dataset
from wrpo.rows.formats.base import in_our_columns

if TYPE_CHECKING:
    import pyarrow as pa

SAVED_BY_DATASETS = ("state.json", "dataset_dict.json")


def numbered_records(dataset: Dataset) -> Iterator[tuple[int, Any]]:
    """Numbered rows from 1, in our columns where the dataset names its format.

    An unreadable row comes as the Drop that says why.

    Raises:
        MissingInputError: the file, the folder or the hub dataset is not there.
        DataError: a file is damaged as a whole.
    """
    records = _records(dataset)
    if dataset.format is not None:
        records = (_of_format(record, dataset.format) for record in records)
    return enumerate(records, start=1)


def _of_format(record: Any, name: str) -> Any:
    """The record in our columns; what is no record of columns stays for the caller to refuse."""
    if not isinstance(record, dict):
        return record
    try:
        return in_our_columns(record, name=name)
    except DataError as error:
        return Drop("unusable", str(error))


def _records(dataset: Dataset) -> Iterable[Any]:
    path = Path(dataset.path)
    if is_folder(path):
        return _folder(path, dataset)
    if path.suffix in _READERS:
        if not is_file(path):
            raise MissingInputError(f"no file {path}")
        return _READERS[path.suffix](path)
    return _hub(dataset)


def _folder(path: Path, dataset: Dataset) -> Iterable[Any]:
    if any((path / name).is_file() for name in SAVED_BY_DATASETS):
        return _saved(path, dataset.split)
    # A stage folder holds its dropped rows and its manifest beside the parts.
    files = parts(path) or sorted(file for file in path.iterdir() if file.suffix in _READERS)
    files = [file for file in files if not file.name.startswith((".", "dataset_info"))]
    if not files:
        raise MissingInputError(
            f"{path} holds neither a dataset that was saved by save_to_disk nor any file of "
            f"{', '.join(_READERS)}"
        )
    return chain.from_iterable(_READERS[file.suffix](file) for file in files)


def _saved(path: Path, split: str) -> Iterable[Any]:
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(str(path))
    if not isinstance(saved, DatasetDict):
        return saved
    if split not in saved:
        raise MissingInputError(f"{path} has no split {split}; it has: {', '.join(saved)}")
    return saved[split]


def _jsonl(path: Path) -> Iterator[Any]:
    with path.open("rb") as lines:
        for line in lines:
            if line.strip():
                try:
                    yield json.loads(line.decode("utf-8-sig"))
                except (UnicodeDecodeError, ValueError, RecursionError) as error:
                    yield Drop("unusable", f"not a UTF-8 JSON line ({error})")


# Bytes that are no UTF-8 become lone surrogates, so that only the rows that hold them are dropped.
_LENIENT: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "surrogateescape"}


def _json(path: Path) -> Iterable[Any]:
    try:
        records = json.loads(path.read_text(**_LENIENT))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not a JSON file: {error}. Fix it there, or give one row a line as .jsonl, "
            "of which only bad rows are dropped"
        ) from None
    if not isinstance(records, list):
        raise DataError(
            f"{path}: holds a {type(records).__name__}, not a list of rows; put them into [ ]"
        )
    return records


def _csv(path: Path) -> Iterator[Any]:
    csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is less than a long document
    line = 0
    try:
        with path.open(newline="", **_LENIENT) as lines:
            reader = csv.DictReader(lines, strict=True)  # an open quote would take all that follows
            for record in reader:
                line = reader.line_num
                if None in record:
                    yield Drop("unusable", "has more cells than the header has columns")
                else:
                    yield record
    except csv.Error as error:
        raise DataError(
            f"{path}: not a CSV file after line {line}: {error}; fix it there"
        ) from None


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    read = 0
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        expected = file.metadata.num_rows
        for batch in file.iter_batches():
            read += batch.num_rows
            yield from _rows(batch)
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:  # the last: names of columns
        raise DataError(
            f"{path}: not readable as parquet: {error}. Download the file again"
        ) from None
    if read != expected:
        raise DataError(f"{path}: has {read} rows and should have {expected}. Download it again")


def _rows(batch: pa.RecordBatch) -> Iterator[Any]:
    """The rows of a batch; one whose text is not UTF-8 does not take the others with it."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass
    for place in range(batch.num_rows):
        try:
            yield batch.slice(place, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            yield Drop("unusable", f"not UTF-8 ({error})")


_READERS: dict[str, Callable[[Path], Iterable[Any]]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _hub(dataset: Dataset) -> Iterable[Any]:
    from datasets import load_dataset

    try:
        return load_dataset(
            dataset.path, dataset.config, split=dataset.split, revision=dataset.revision
        )
    except Exception as error:  # datasets raises many unrelated types for a name it cannot load
        raise MissingInputError(
            f"cannot load dataset {dataset.path} ({type(error).__name__}: {error}); "
            "check the name and the network, or give a .jsonl, .parquet or .csv file"
        ) from None

"""Reads the rows of one file: JSON lines, a JSON list, CSV, each perhaps compressed, or parquet."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from wrpo.errors import DataError, raise_if_of_system
from wrpo.pipeline.tables import Drop

if TYPE_CHECKING:
    import pyarrow as pa

# Bytes that are no UTF-8 become lone surrogates, so that only the rows that hold them are dropped.
_LENIENT: dict[str, Any] = {"encoding": "utf-8-sig", "errors": "surrogateescape"}

_COMPRESSED: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}

_OTHER_TABLES = (
    *(".zst", ".zip", ".tar", ".tgz", ".7z", ".gz", ".bz2", ".xz"),
    *(".arrow", ".feather", ".tsv", ".xlsx", ".avro", ".orc"),
)


def read_file(path: Path) -> Iterable[Any]:
    """Its rows; an unreadable row comes as the Drop that says why.

    Raises:
        DataError: the file is damaged as a whole, or of another kind.
    """
    kind = file_kind(path)
    if kind is None:
        raise DataError(
            f"{path}: rows are read from {', '.join(KINDS)}, of which all but .parquet may end in "
            f"{', '.join(_COMPRESSED)} too; unpack or convert it"
        )
    return _READERS[kind](path)


def file_kind(path: Path) -> str | None:
    """The ending that says how a file is read; None where it does not say so."""
    endings = [ending.lower() for ending in path.suffixes]
    if len(endings) > 1 and endings[-1] in _COMPRESSED and endings[-2] != ".parquet":
        endings.pop()
    return endings[-1] if endings and endings[-1] in _READERS else None


def is_other_table(path: Path) -> bool:
    """Whether a file may hold rows, but is of no kind that is read."""
    return file_kind(path) is None and path.suffix.lower() in _OTHER_TABLES


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, decompressed.

    Raises:
        DataError: it is not compressed as its name says, or cut short.
    """
    opener = _COMPRESSED.get(path.suffix.lower(), lambda path: path.open("rb"))
    try:
        with opener(path) as file:
            yield file
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise_if_of_system(error, path)
        raise DataError(
            f"{path}: cannot be decompressed: {error}. Download the file again"
        ) from None


def _jsonl(path: Path) -> Iterator[Any]:
    with _opened(path) as lines:
        for line in lines:
            if line.strip():
                try:
                    yield json.loads(line.decode("utf-8-sig"))
                except (UnicodeDecodeError, ValueError, RecursionError) as error:
                    yield Drop("unusable", f"not a UTF-8 JSON line ({error})")


def _json(path: Path) -> Iterable[Any]:
    with _opened(path) as file:
        content = file.read().decode(**_LENIENT)
    try:
        records = json.loads(content)
    except (ValueError, RecursionError) as error:
        if _is_lines(content):
            return _jsonl(path)
        raise DataError(
            f"{path}: not a JSON file: {error}. Fix it there, or give one row a line as .jsonl, "
            "of which only bad rows are dropped"
        ) from None
    if not isinstance(records, list):
        raise DataError(
            f"{path}: holds a {type(records).__name__}, not a list of rows; put them into [ ]"
        )
    return records


def _is_lines(content: str) -> bool:
    """Whether it is JSON lines under another name: the first line is an object."""
    try:
        return isinstance(json.loads(content.lstrip().partition("\n")[0]), dict)
    except (ValueError, RecursionError):
        return False


def _csv(path: Path) -> Iterator[Any]:
    csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is less than a long document
    line = 0
    try:
        with _opened(path) as file, io.TextIOWrapper(file, newline="", **_LENIENT) as lines:
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
        raise_if_of_system(error, path)
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
KINDS = tuple(_READERS)
"""Endings of the files that are read."""

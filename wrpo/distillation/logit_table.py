"""Tables of distributions on disk, looked up by response_id: nothing of a token is in memory.

The parquet parts of a stage `teacher_logits/...` are unpacked once into one Arrow file without
compression, which is mapped: the system reads what is touched and forgets it when memory is short.
All processes of a machine map the same file.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wrpo.files import PARTIAL, replacing
from wrpo.objectives.base import LogitPlace
from wrpo.pipeline.tables import TEACHER_LOGITS, parts, read_table


class LogitTable(Mapping[str, Mapping[str, Any]]):
    """Rows of `wrpo.pipeline.tables.TEACHER_LOGITS` by response_id, in a file of `unpack`.

    A row reads a column when it is asked for it. In memory are the ids of responses.
    """

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            count = reader.num_record_batches
            self._batches = [reader.get_batch(number) for number in range(count)]
        self._places = {
            key: (number, row)
            for number, batch in enumerate(self._batches)
            for row, key in enumerate(batch.column("response_id").to_pylist())
        }

    def __getitem__(self, key: str) -> Mapping[str, Any]:
        number, row = self._places[key]
        return _StoredRow(self._batches[number], row)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def nbytes(self) -> int:
        """Bytes of all numbers, on disk."""
        return sum(batch.nbytes for batch in self._batches)


class _StoredRow(Mapping[str, Any]):
    """One row, as plain Python values of the columns that are read."""

    def __init__(self, batch: pa.RecordBatch, row: int) -> None:
        self._batch, self._row = batch, row

    def __getitem__(self, name: str) -> Any:
        value = self._batch.column(name)[self._row]
        return _lists(value) if name in ("top_ids", "top_logps") else value.as_py()

    def __iter__(self) -> Iterator[str]:
        return iter(self._batch.schema.names)

    def __len__(self) -> int:
        return self._batch.num_columns


def _lists(value: pa.ListScalar) -> list[list[Any]]:
    """What `as_py` gives of a list of lists, by numpy and so fifty times as fast."""
    flat = value.values.flatten().to_numpy()
    counts = value.values.value_lengths().to_numpy()
    if len(counts) and (counts == counts[0]).all():
        same: list[list[Any]] = flat.reshape(len(counts), -1).tolist()
        return same
    return [one.tolist() for one in np.split(flat, counts.cumsum())[:-1]]


def unpack(folder: Path, path: Path) -> None:
    """Writes the parts of a stage as one file to be mapped; one part is in memory at a time.

    Raises:
        DataError: a part is damaged, or another table.
    """
    with replacing(path) as partial, pa.ipc.new_file(str(partial), TEACHER_LOGITS) as file:
        for part in parts(folder):
            table = read_table(part, TEACHER_LOGITS.names, TEACHER_LOGITS)
            for batch in table.cast(TEACHER_LOGITS).to_batches():
                file.write_batch(batch)


def map_tables(folders: Mapping[LogitPlace, Path], *, into: Path) -> dict[LogitPlace, LogitTable]:
    """The tables of some stages, unpacked by the first process of each machine, mapped by all.

    Args:
        into: a folder with room for them. The files are removed at once; what is mapped stays
            readable until its process ends, however it ends.

    Raises:
        DataError: a part is damaged, or another table.
    """
    from accelerate import PartialState

    processes = PartialState()
    # A network disk keeps what is removed only for the machine that has it open: one file for each.
    ending = f".{platform.node()}{PARTIAL}"
    paths = {place: into / f".{place.stage.replace('/', '-')}{ending}" for place in folders}
    try:
        with processes.local_main_process_first():
            for place, folder in folders.items() if processes.is_local_main_process else ():
                unpack(folder, paths[place])
            tables = {place: LogitTable(path) for place, path in paths.items()}
        processes.wait_for_everyone()
    finally:
        for path in paths.values() if processes.is_local_main_process else ():
            path.unlink(missing_ok=True)
    return tables

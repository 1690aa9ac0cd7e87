"""Datasets as rows by id: what is unusable or repeated is dropped with its place and its reason."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from data_construction.datasets.records import numbered_records
from wrpo.pipeline.tables import Drop, Row
from wrpo.recipe.prompts import Dataset


class DistinctRows:
    """Collects rows of one dataset after the other; of equal ids the first row stays.

    Attributes:
        rows: by id.
        dropped: rows of the table of dropped rows; reasons `unusable` and `duplicate`.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.dropped: list[Row] = []

    def add(
        self,
        dataset: Dataset,
        make: Callable[[dict[str, Any]], tuple[str, Row]],
        *,
        limit: int | None = None,
        drop_repeated: bool = True,
    ) -> set[str]:
        """Adds the records of a dataset; the names of all columns that any of them has.

        Args:
            make: (id, row) out of a record; the row has a `prompt_id`. Raises Drop.
            limit: only the first records.
            drop_repeated: whether a repeated id is a dropped row, or nothing at all.

        Raises:
            MissingInputError: the dataset is not there.
            DataError: a file is damaged as a whole.
        """
        columns: set[str] = set()
        for number, record in islice(numbered_records(dataset), limit):
            where = f"{dataset.path} row {number}"
            try:
                columns |= _with_columns(record).keys()
                key, row = make(record)
            except Drop as drop:
                self.dropped.append(Drop(drop.reason, f"{where}: {drop.detail}").row(""))
                continue
            if key not in self.rows:
                self.rows[key] = row
            elif drop_repeated:
                self.dropped.append(Drop("duplicate", where).row(row["prompt_id"]))
        return columns


def _with_columns(record: Any) -> dict[str, Any]:
    if isinstance(record, Drop):
        raise record
    if not isinstance(record, dict):
        raise Drop("unusable", f"is a {type(record).__name__}, not an object with columns")
    return record

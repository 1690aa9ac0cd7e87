"""Datasets as rows by id: what is unusable or repeated is dropped with its place and its reason."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from data_construction.datasets.records import located_records
from wrpo.pipeline.tables import Drop, Row
from wrpo.recipe.prompts import Dataset
from wrpo.rows.unread import WatchedRow

logger = logging.getLogger(__name__)


class DistinctRows:
    """Collects rows of one dataset after the other; of equal ids the first row stays.

    Attributes:
        rows: by id.
        places: file and number of each row, by id.
        dropped: rows of the table of dropped rows; reasons `unusable` and `duplicate`.
        unread: how many rows hold something in a column, or under a key of messages (COLUMN[].KEY),
            that no row of ours is made of.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.places: dict[str, str] = {}
        self.unread: Counter[str] = Counter()
        self.dropped: list[Row] = []

    def add(
        self,
        dataset: Dataset,
        make: Callable[[Mapping[str, Any]], tuple[str, Row]],
        *,
        prepare: Callable[[dict[str, Any]], dict[str, Any]] = dict,
        limit: int | None = None,
        drop_repeated: bool = True,
    ) -> set[str]:
        """Adds the records of a dataset; the names of all columns that any of them has.

        Args:
            make: (id, row) out of a record; the row has a `prompt_id`. Raises Drop.
            prepare: the record before `make` reads it; columns that it takes out are read. Raises
                Drop.
            limit: only the first records.
            drop_repeated: whether a repeated id is a dropped row, or nothing at all.

        Raises:
            MissingInputError: the dataset is not there.
            DataError: a file is damaged as a whole.
        """
        columns: set[str] = set()
        for where, record in islice(located_records(dataset), limit):
            try:
                columns |= _with_columns(record).keys()
                watched = WatchedRow(prepare(record))
                key, row = make(watched)
            except Drop as drop:
                self.dropped.append(Drop(drop.reason, f"{where}: {drop.detail}").row(""))
                continue
            self.unread.update(watched.unread())
            if key not in self.rows:
                self.rows[key], self.places[key] = row, where
            elif drop_repeated:
                self.dropped.append(Drop("duplicate", where).row(row["prompt_id"]))
        return columns


def log_unread(stage: str, unread: Counter[str]) -> None:
    """Says which names of a dataset hold something that no row is made of."""
    if unread:
        names = ", ".join(f"{name} ({count} rows)" for name, count in sorted(unread.items()))
        logger.info("%s: not read: %s", stage, names)


def _with_columns(record: Any) -> dict[str, Any]:
    if isinstance(record, Drop):
        raise record
    if not isinstance(record, dict):
        raise Drop("unusable", f"is a {type(record).__name__}, not an object with columns")
    return record

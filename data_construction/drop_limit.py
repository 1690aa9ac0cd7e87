"""The limit on dropped rows: a stage that loses more than the recipe allows stops."""

from __future__ import annotations

from collections.abc import Callable

from wrpo.errors import DataError
from wrpo.pipeline.folder import DROPPED_FILE, StageFolder, dropped_name
from wrpo.pipeline.tables import DROPPED, Row, read_parquet, write_parquet


def check_dropped(
    folder: StageFolder,
    dropped: list[Row],
    *,
    total: int,
    limit: float,
    lost: int | None = None,
) -> None:
    """Keeps the reasons and stops when too much is dropped.

    Args:
        lost: how many of `total` the dropped rows stand for, where it is not one each.

    Raises:
        DataError: more than `limit` of `total` rows are dropped.
    """
    lost = len(dropped) if lost is None else lost
    share = lost / max(1, total)
    if share <= limit:
        return
    write_parquet(folder.path / DROPPED_FILE, dropped, DROPPED)
    first = dropped[0]
    raise DataError(
        f"{folder.path}: {lost} of {total} rows dropped ({share:.0%}), more than "
        f"max_dropped_share={limit:.0%} allows. First reason: {first['reason']} "
        f"({first['detail']}). All of them: python -m data_construction.peek {folder.path} "
        "--dropped. Mend the data and delete the folder, or raise the limit"
    )


class DropLimit:
    """Watches the parts of a stage, those of earlier starts too.

    The limit is a share of all rows of the stage, so the stage stops as soon as it is sure to be
    passed.

    Args:
        total: rows that the stage would have without a loss.
        limit: the share of them that may be dropped.
        lost: how many of them some dropped rows stand for.

    Raises:
        DataError: it is passed already.
    """

    def __init__(
        self,
        folder: StageFolder,
        *,
        total: int,
        limit: float,
        lost: Callable[[list[Row]], int] = len,
    ) -> None:
        self._folder = folder
        self._total = total
        self._limit = limit
        self._lost_by = lost
        self._lost = lost(folder.dropped_rows())
        self._check()

    def add(self, lost: int) -> None:
        """Counts the loss of one more part, which is written.

        Raises:
            DataError: the limit is passed.
        """
        self._lost += lost
        if lost:
            self._check()

    def add_part(self, part: int) -> None:
        """As `add`, of a part in the folder that another process has written."""
        path = self._folder.path / dropped_name(part)
        self.add(self._lost_by(read_parquet(path, DROPPED)) if path.exists() else 0)

    def _check(self) -> None:
        if self._lost > self._limit * self._total:
            rows = self._folder.dropped_rows()
            check_dropped(self._folder, rows, lost=self._lost, total=self._total, limit=self._limit)

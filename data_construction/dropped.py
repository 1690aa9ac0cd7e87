"""The limit on dropped rows: a stage that loses more than the recipe allows stops."""

from __future__ import annotations

from wrpo.errors import DataError
from wrpo.stage_folder import DROPPED_FILE, StageFolder
from wrpo.tables import DROPPED, Row, write_parquet


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
        "--dropped. Mend the data or raise the limit"
    )

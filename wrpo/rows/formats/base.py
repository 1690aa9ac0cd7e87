"""What a format of training rows is, and how rows of any format come into our own columns.

Our columns are those of TRL's conversational data: `prompt` a list of messages; `completion`, or
`source_chosen` (triples only), `chosen` and `rejected`, each one assistant message in a list;
beside them `*_source`, `*_index` and `*_score`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

from wrpo.errors import DataError
from wrpo.rows.unread import WatchedRow
from wrpo.settings import Section, kinds_in

Columns = Mapping[str, Any]
Message = dict[str, Any]


class RowFormat(Section):
    """How rows are laid out; `format` is its name in recipes and on the command line.

    Attributes:
        tables: training tables whose rows it can hold.
    """

    tables: ClassVar[tuple[str, ...]] = (
        "sft",
        "triples",
        "pairs",
        "source_pairs",
        "delta",
        "rejection",
        "responses",
    )

    format: str

    def recognises(self, row: Columns) -> bool:
        """Whether the columns and values of a row can be of this format only."""
        return False

    def read(self, row: Columns) -> dict[str, Any]:
        """Our columns. What is read of the row is replaced by them; its other columns stay.

        Messages keep their other keys, so that none is lost before it is refused or counted.

        Raises:
            LookupError, AttributeError, TypeError, ValueError: the row is not of this format.
        """
        return dict(row)

    def write(self, row: Columns) -> dict[str, Any]:
        """A row of ours in this format."""
        raise NotImplementedError

    @property
    def writes(self) -> bool:
        """Whether rows of ours can leave in this format."""
        return type(self).write is not RowFormat.write

    def further_files(self, name: str, *, data_file: str, table: str) -> dict[str, str]:
        """What its toolkit wants beside the data: file name to text.

        Args:
            name: of the dataset.
        """
        return {}


@cache
def row_formats() -> dict[str, RowFormat]:
    """Every format of this package by its name."""
    kinds = kinds_in("wrpo.rows.formats", RowFormat, tag="format")
    return {name: kind(format=name) for name, kind in kinds.items()}


def in_our_columns(row: Columns, *, name: str | None = None, table: str | None = None) -> Columns:
    """The row in our columns; as it is where no format recognises it.

    Args:
        name: of its format; None: the first that recognises the row.
        table: the training table that it is for; None: any.

    Raises:
        DataError: the row is not of the format.
    """
    for each, known in row_formats().items():
        fits = table is None or table in known.tables
        if each == name or (name is None and fits and known.recognises(row)):
            watched = WatchedRow(row)
            try:
                ours = known.read(watched)
            except (LookupError, AttributeError, TypeError, ValueError) as error:
                raise DataError(
                    f"not a row of format {each} ({type(error).__name__}: {error}); it has: "
                    f"{', '.join(map(str, row))}"
                ) from None
            return {name: row[name] for name in row if name not in watched.read} | ours
    return row

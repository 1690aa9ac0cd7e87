"""Columns of training rows: the responses, their scores, their reference log-probabilities."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from wrpo.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

TRIPLE_RESPONSES = ("source_chosen", "chosen", "rejected")
ROW_WEIGHT = "row_weight"
"""Optional column: what the loss of a row is multiplied by."""

SCORE_COLUMNS = ("source_chosen_score", "chosen_score")

IMPORTED_FROM = "imported_from"
"""File and number of an imported row; null where this run made the row."""


def reference_column(response: str) -> str:
    """Name of the column of summed reference log-probabilities (nats) of a response."""
    return f"ref_{response}_logps"


def reference_length_column(response: str) -> str:
    """Name of the optional column of token counts behind `reference_column`."""
    return f"ref_{response}_length"


def has_reference(columns: Iterable[str], responses: Sequence[str] = TRIPLE_RESPONSES) -> bool:
    """Whether `columns` hold reference log-probabilities for the scored `responses`.

    Raises:
        DataError: some of the columns are there and some are not.
    """
    columns = set(columns)
    wanted = [reference_column(response) for response in responses]
    present = [column for column in wanted if column in columns]
    if present and present != wanted:
        missing = [column for column in wanted if column not in columns]
        raise DataError(
            f"the data set has {', '.join(present)} but not {', '.join(missing)}; supply all "
            "reference columns, or none and let the trainer compute them"
        )
    return bool(present)


def name_reference_columns(
    dataset: "Dataset", *, responses: Sequence[str], scored: Sequence[str]
) -> "Dataset":
    """Reference columns of the `scored` responses out of the ones TRL's precomputing pass writes.

    That pass knows two columns: here ref_chosen_logps holds all `responses` of a row but the last,
    in order, and ref_rejected_logps the last.
    """
    columns = [reference_column(name) for name in ("chosen", "rejected")]
    arrays = dataset.with_format("numpy")
    first, last = (arrays[column][:] for column in columns)
    dataset = dataset.remove_columns(columns)
    for response, values in zip(responses, [*first.T, last], strict=True):
        if response in scored:
            dataset = dataset.add_column(reference_column(response), values)
    return dataset

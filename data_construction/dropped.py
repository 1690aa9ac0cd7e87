"""The limit on dropped rows: a stage that loses more than the recipe allows stops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from data_construction.prompt_lookup import PromptLookup
from wrpo.errors import DataError
from wrpo.stage_folder import DROPPED_FILE, StageFolder
from wrpo.tables import DROPPED, Row, write_parquet

if TYPE_CHECKING:
    from data_construction.part_sampler import PartSampler, WrittenPart


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


def answers_lost(dropped: Iterable[Row], responses: Callable[[str], int]) -> int:
    """How many answers dropped rows stand for: a dropped prompt (index -1) is all of its own.

    Args:
        responses: answers to a prompt, by its id.
    """
    return sum(responses(row["prompt_id"]) if row["index"] < 0 else 1 for row in dropped)


class DroppedAnswers:
    """Watches the parts of a sampling stage, those of earlier starts too.

    The limit is a share of all answers of the stage, so the stage stops as soon as it is sure
    to be passed.

    Raises:
        DataError: it is passed already.
    """

    def __init__(self, sampler: PartSampler) -> None:
        self._sampler = sampler
        self._total = sampler.answers()
        earlier = sampler.folder.dropped_rows()
        self._lost = answers_lost(earlier, self._responses()) if earlier else 0
        self._check()

    def add(self, written: WrittenPart) -> None:
        """Counts one more part.

        Raises:
            DataError: the limit is passed.
        """
        self._lost += written.lost
        if written.lost:
            self._check()

    def _responses(self) -> Callable[[str], int]:
        sampler = self._sampler
        prompts = PromptLookup(sampler.pipeline.finished("prompts"))
        return lambda key: sampler.responses(prompts[key]["domain"])

    def _check(self) -> None:
        limit = self._sampler.recipe.sample.max_dropped_share
        if self._lost > limit * self._total:
            folder = self._sampler.folder
            check_dropped(
                folder, folder.dropped_rows(), lost=self._lost, total=self._total, limit=limit
            )

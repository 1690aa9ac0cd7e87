"""More supervised fine-tuning: on one response of each triple, or on rows of one response.

It compares nothing, and so is the control of every preference objective.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from wrpo.errors import DataError
from wrpo.objectives.base import ObjectiveSettings

if TYPE_CHECKING:
    from wrpo.pipeline.tables import Row


class SFTSettings(ObjectiveSettings):
    """The same steps, spent on imitation of one response of each row."""

    label: ClassVar[str] = "SFT"
    phrase: ClassVar[str] = "more SFT"
    tables: ClassVar[tuple[str, ...]] = ("triples", "rejection", "revisions", "responses")
    config: ClassVar[str] = "SFTConfig"
    cut_by: ClassVar[set[str] | None] = {"max_length"}
    trained_by: ClassVar[str] = "wrpo.train_sft:train_sft_arm"

    objective: Literal["sft"] = "sft"
    sft_on: Literal["source_chosen", "chosen", "better"] = Field(
        "source_chosen",
        description="Which response of a triple it trains on; better: the higher scored one.",
    )

    @property
    def responses(self) -> tuple[str, ...]:
        return ("source_chosen",) if self.data == "triples" else ("completion",)

    def trained_on(self, row: Row) -> str:
        """Name of the response of a row that is imitated.

        Raises:
            DataError: the scores are to be compared, and the row has none.
        """
        if self.data != "triples":
            return "completion"
        if self.sft_on != "better":
            return self.sft_on
        if row["source_chosen_score"] is None or row["chosen_score"] is None:
            raise DataError(f"row {row['triple_id']} has no scores; sft_on: better compares them")
        better = row["source_chosen_score"] > row["chosen_score"]
        return "source_chosen" if better else "chosen"

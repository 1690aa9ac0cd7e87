"""TRL's SFTTrainer with micro-batches by tokens."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from trl import SFTTrainer

from wrpo.training.batches.micro_batches import Costs, MicroBatches, take_whole_steps


class PackedSFTTrainer(MicroBatches, SFTTrainer):
    """Used like its parent; micro-batches hold equal numbers of tokens instead of rows.

    Args:
        tokens: most tokens of a forward pass, or "auto"; None leaves everything to the parent.
    """

    def __init__(self, tokens: int | str | None, **options: Any) -> None:
        self.budget_tokens = tokens
        if tokens is not None:
            take_whole_steps(options["args"])
        super().__init__(**options)

    def row_costs(self, rows: Sequence[Any]) -> Costs:
        return Costs([len(row["input_ids"]) for row in rows], not self.padding_free)

    def longest_row(self) -> int:
        return max(map(len, self.train_dataset["input_ids"]))

    def recorded(self) -> Any:
        return copy.deepcopy(self._metrics["train"]), self._total_train_tokens

    def restore(self, recorded: Any) -> None:
        self._metrics["train"], self._total_train_tokens = recorded

"""FuseRL, preference stage: pairs within each source, weighed by how good each source's best is.

    loss = mean over prompts of sum_s w_s * l(best of s, worst of s),
    w_s  = softmax_s(best reward of s / temperature)

Our reading of FuseRL (arXiv 2504.06562), not verified: neither its text nor its code could be read,
and accounts by others agree on the softmax of rewards and on pairs within sources only. l is DPO's
loss; the temperature, the rows of prompts of which one source has pairs only, and the first stage,
which would be supervised, are not known. A row carries w_s times sources per prompt, so that the
mean over rows is the mean over prompts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from wrpo.errors import DataError
from wrpo.objectives.base import Objective
from wrpo.objectives.dpo import DPO
from wrpo.objectives.pair_loss import PairLossSettings
from wrpo.rows.columns import ROW_WEIGHT

if TYPE_CHECKING:
    from wrpo.pipeline.tables import Row


class FuseRLSettings(PairLossSettings):
    """FuseRL's preference stage on the table source_pairs; our reading."""

    label: ClassVar[str] = "FuseRL (our reading)"
    phrase: ClassVar[str] = "FuseRL, as we read it,"
    tables: ClassVar[tuple[str, ...]] = ("source_pairs",)

    objective: Literal["fuserl"] = "fuserl"
    data: Literal["source_pairs"] = Field(
        "source_pairs", description="Best and worst response of every source to a prompt."
    )
    temperature: float = Field(1.0, gt=0.0, description="Of the softmax over sources.")

    def build(self) -> Objective:
        return DPO(self.form)

    def rows_to_train(self, rows: list[Row]) -> list[Row]:
        """Rows of the sources in `rows_of`, with their weights.

        Raises:
            DataError: there are none, or a row has no score.
        """
        own = super().rows_to_train(rows)
        weights = weights_of_rows(own, temperature=self.temperature)
        return [{**row, ROW_WEIGHT: weight} for row, weight in zip(own, weights, strict=True)]

    def summary(self) -> str:
        return f"{super().summary()}, temperature {self.temperature:g}"


def weights_of_rows(rows: Sequence[Mapping[str, object]], *, temperature: float) -> list[float]:
    """w_s of each row, times rows per prompt; their mean is 1.

    Args:
        rows: of several prompts, one per source, with `prompt_id` and `chosen_score`.

    Raises:
        DataError: a row has no score.
    """
    places: dict[object, list[int]] = defaultdict(list)
    scores: list[float] = []
    for place, row in enumerate(rows):
        score = row["chosen_score"]
        if not isinstance(score, float):
            raise DataError(f"row {row['triple_id']} has no score, which FuseRL weighs it by")
        places[row["prompt_id"]].append(place)
        scores.append(score / temperature)
    found = [0.0] * len(rows)
    for own in places.values():
        highest = max(scores[place] for place in own)
        powers = [math.exp(scores[place] - highest) for place in own]
        for place, power in zip(own, powers, strict=True):
            found[place] = power / math.fsum(powers) * len(rows) / len(places)
    return found

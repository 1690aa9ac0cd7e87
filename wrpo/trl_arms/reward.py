"""The rewards of a recipe as a reward function of TRL's trainers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wrpo.rewards import Candidate, RewardModel

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline


class RecipeReward:
    """Score of a completion as the score stage has it: the weighted sum of the recipe's rewards.

    Args:
        unscored: what a completion gets that no reward scores, as an empty one.
    """

    __name__ = "recipe"  # of the reward in TRL's logs

    def __init__(self, pipeline: Pipeline, *, unscored: float) -> None:
        self._settings = pipeline.recipe.rewards
        self._rewards: dict[str, RewardModel] = {
            name: one.load(pipeline) for name, one in self._settings.items()
        }
        self._unscored = unscored

    @property
    def forwarded_tokens(self) -> int:
        """Through the networks of the rewards, in this process; judges are not in it."""
        return sum(getattr(one, "forwarded_tokens", 0) for one in self._rewards.values())

    def __call__(
        self,
        prompts: Sequence[list[dict[str, str]]],
        completions: Sequence[list[dict[str, str]]],
        **columns: Any,
    ) -> list[float]:
        candidates = [
            Candidate(messages, said[-1]["content"], reference, key)
            for messages, said, reference, key in zip(
                *(prompts, completions, columns["reference_answer"], columns["prompt_id"]),
                strict=True,
            )
        ]
        domains = columns["domain"]
        totals = [0.0 if one.response.strip() else math.nan for one in candidates]
        for name, reward in self._rewards.items():
            places = [
                place
                for place, total in enumerate(totals)
                if not math.isnan(total) and self._settings[name].covers(domains[place])
            ]
            values = reward.score([candidates[place] for place in places]) if places else []
            for place, value in zip(places, values, strict=True):
                number = value if isinstance(value, float) else math.nan
                totals[place] += self._settings[name].weight * number
        return [total if math.isfinite(total) else self._unscored for total in totals]

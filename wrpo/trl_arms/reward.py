"""The rewards of a recipe as a reward function of TRL's trainers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from wrpo.rewards import Candidate, RewardModel

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline

RewardFunction = Callable[..., list[float]]


def reward_function(pipeline: Pipeline, *, unscored: float) -> RewardFunction:
    """Score of a completion as the score stage has it: the weighted sum of the recipe's rewards.

    Args:
        unscored: what a completion gets that no reward scores, as an empty one.
    """
    settings = pipeline.recipe.rewards
    rewards: dict[str, RewardModel] = {name: one.load(pipeline) for name, one in settings.items()}

    def score(
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
        for name, reward in rewards.items():
            places = [
                place
                for place, total in enumerate(totals)
                if not math.isnan(total) and settings[name].covers(domains[place])
            ]
            values = reward.score([candidates[place] for place in places]) if places else []
            for place, value in zip(places, values, strict=True):
                number = value if isinstance(value, float) else math.nan
                totals[place] += settings[name].weight * number
        return [total if math.isfinite(total) else unscored for total in totals]

    return score

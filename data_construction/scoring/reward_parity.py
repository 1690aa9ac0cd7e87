"""Checks that a reward's scores do not depend on batches: 16 random conversations, alone and all.

Run:     python -m data_construction.scoring.reward_parity --recipe recipes/demo.yaml
         --reward NAME ... checks only these
Prints one JSON object per reward: name, ok, message. `python -m wrpo doctor` runs it.
"""

from __future__ import annotations

import json
import math
import random
import sys
from typing import Any

from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import RecipeError, WRPOError
from wrpo.pipeline.tables import Drop
from wrpo.recipe import Recipe
from wrpo.rewards import Candidate, RewardSettings

PROMPT_COUNT, RESPONSES_EACH = 4, 4
_WORDS = ("the", "sea", "is", "wide", "and", "every", "hill", "was", "green", "once", "so", "we")
_SEED = 7


def random_candidates() -> list[Candidate]:
    """Four responses to each of four prompts, of 3 to 60 words."""
    chance = random.Random(_SEED)
    found = []
    for _ in range(PROMPT_COUNT):
        messages = [{"role": "user", "content": _text(chance)}]
        found += [Candidate(messages, _text(chance), None) for _ in range(RESPONSES_EACH)]
    return found


def check_reward(name: str, settings: RewardSettings) -> dict[str, Any]:
    """Scores all conversations together and each alone; loading compares the rest by itself."""
    try:
        reward = settings.load()
        candidates = random_candidates()
        together = reward.score(candidates)
        alone = [reward.score([candidate])[0] for candidate in candidates]
    except WRPOError as error:
        return {"reward": name, "ok": False, "message": str(error)}
    differences = []
    for one, other in zip(together, alone, strict=True):
        if isinstance(one, Drop) or isinstance(other, Drop):
            drop = one if isinstance(one, Drop) else other
            return {"reward": name, "ok": False, "message": repr(drop)}
        differences.append(abs(one - other))
    if not all(map(math.isfinite, differences)):
        return {"reward": name, "ok": False, "message": "a score is not a finite number"}
    same = all(_best(together, prompt) == _best(alone, prompt) for prompt in range(PROMPT_COUNT))
    compared = (
        f"{len(candidates)} conversations, batch 1 against batch B: {max(differences):.2g} apart"
    )
    choice = "the same best responses" if same else "other best responses; set dtype: float32"
    return {"reward": name, "ok": same, "message": f"{compared}, {choice}"}


def _best(scores: list[Any], prompt: int) -> int:
    places = range(prompt * RESPONSES_EACH, (prompt + 1) * RESPONSES_EACH)
    return max(places, key=scores.__getitem__)


def _text(chance: random.Random) -> str:
    return " ".join(chance.choice(_WORDS) for _ in range(chance.randint(3, 60)))


def check_rewards(recipe: Recipe, names: list[str] | None = None) -> list[dict[str, Any]]:
    """Every reward that is a model, or those of the names.

    Raises:
        RecipeError: no such reward.
    """
    models = {n: r for n, r in recipe.rewards.items() if r.networks()}
    unknown = [name for name in names or () if name not in models]
    if unknown:
        known = ", ".join(models) or "none"
        raise RecipeError(f"--reward: no model under rewards.{unknown[0]}; models are: {known}")
    return [check_reward(name, models[name]) for name in names or models]


def main() -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--reward", nargs="+", metavar="NAME", help="only these; default: all")
    args, recipe = parse_stage(parser)
    for found in check_rewards(recipe, args.reward):
        sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    run_main(main)

"""Tries other learning rates for every arm of a recipe, on a world that no reported figure uses.

Run:     python -m tiny_world.tune --recipe demo-arms
Resume:  the same command again; finished stages stay
Writes:  runs/RECIPE-tuning.yaml, its run, and the table runs/RECIPE-tuning/tuning.md

Every arm gets the same budget: its learning rate in the recipe times each factor. A merge is tried
with its models at each factor. Which is best says the reward of greedy responses to the world's
held-out prompts; copy it into the recipe.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tiny_world.demo import demo_overrides, greedy_scores, make_world, run_pipeline
from wrpo.cli import run_main

logger = logging.getLogger(__name__)

Rates = dict[str, dict[str, float]]
"""Of each arm and merge: the models tried, with their factors of the learning rate."""


def variants(
    recipe: Any, factors: Sequence[float], only: Sequence[str] = ()
) -> tuple[dict[str, Any], Rates]:
    """The arms and merges to add to a recipe, and what was tried of each.

    Args:
        recipe: the loaded recipe.
        factors: of each arm's learning rate; 1 is the arm as it is.
        only: arms to try; none: all.
    """
    from wrpo.recipe import preference
    from wrpo.recipe.yaml_source import merge

    arms: dict[str, Any] = {}
    tried: Rates = {}
    names = {arm: {1.0: arm} for arm in only or ["wrpo", *recipe.arms]}
    for arm, models in names.items():
        rate = preference(recipe, arm).train["learning_rate"]
        for factor in factors:
            if factor != 1:
                models[factor] = f"{arm}-lr-{factor * rate:.0e}"
                changed = {"train": {"learning_rate": float(f"{factor * rate:.1e}")}}
                arms[models[factor]] = merge(recipe.arms.get(arm, {}), changed)
        tried[arm] = {model: factor for factor, model in models.items()}
    merges: dict[str, Any] = {}
    for name, settings in recipe.merges.items():
        if not set(settings.models) <= set(names):
            continue
        tried[name] = {name: 1.0}
        for factor in factors:
            if factor != 1:
                other = f"{name}-lr-x{factor:g}"
                models_of = [names[model][factor] for model in settings.models]
                merges[other] = {**settings.model_dump(mode="json"), "models": models_of}
                tried[name][other] = factor
    return {"arms": arms, "merges": merges}, tried


def table(tried: Rates, scores: dict[str, dict[str, float]]) -> str:
    """Markdown: a row per arm and factor, the best reward of an arm in bold.

    Args:
        scores: of each model, accuracy (`acc`) and `reward`.
    """
    lines = ["| arm | factor of the learning rate | accuracy | reward |", "|---|---|---|---|"]
    for arm, models in tried.items():
        best = max(models, key=lambda model: scores[model]["reward"])
        for model, factor in sorted(models.items(), key=lambda item: item[1]):
            mark = "**" if model == best else ""
            accuracy, reward = scores[model]["acc"], scores[model]["reward"]
            lines.append(f"| {arm} | {mark}{factor:g}{mark} | {accuracy:.3f} | {reward:.3f} |")
    return "\n".join(lines) + "\n"


def tune(
    recipe_name: str,
    seed: int,
    factors: Sequence[float],
    changes: Sequence[str],
    *,
    arms: Sequence[str] = (),
    shared_tokenizer: bool = False,
) -> str:
    """Runs the recipe with its variants on the world of a seed and gives the table.

    Raises:
        StageError: a part of it failed.
    """
    from wrpo.recipe import load_recipe
    from wrpo.recipe.shipped import find_recipe
    from wrpo.recipe.yaml_source import dump_yaml

    parent = find_recipe(Path(recipe_name)).resolve()
    world = make_world(seed, shared_tokenizer=shared_tokenizer)
    added, tried = variants(load_recipe(parent, list(changes)), factors, arms)
    run = f"{parent.stem}-tuning"
    # Later rounds train with the settings of the first.
    file = Path("runs") / f"{run}.yaml"
    file.write_text(dump_yaml({"extends": str(parent), "rounds": 1, **added}), encoding="utf-8")
    overrides = [*demo_overrides(seed, world, parent.stem)[1:], f"run={run}", *changes]
    run_pipeline(str(file), overrides)
    run = load_recipe(file, overrides).run
    models = [model for models in tried.values() for model in models]
    found = greedy_scores(Path("runs") / run, models)
    text = table(tried, found)
    (Path("runs") / run / "tuning.md").write_text(text, encoding="utf-8")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tiny_world.tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--recipe", default="demo-arms", help="recipe (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="world (default: %(default)s)")
    parser.add_argument(
        "--factors",
        type=float,
        nargs="+",
        default=[0.1, 0.3, 1.0, 3.0],
        help="of each arm's learning rate (default: 0.1 0.3 1 3)",
    )
    parser.add_argument("--arms", nargs="+", default=[], help="arms to try (default: all)")
    parser.add_argument(
        "--shared-tokenizer",
        action="store_true",
        help="a world whose sources have the target's tokenizer",
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="recipe changes")
    args = parser.parse_args()
    text = tune(
        args.recipe,
        args.seed,
        args.factors,
        args.set,
        arms=args.arms,
        shared_tokenizer=args.shared_tokenizer,
    )
    sys.stdout.write(text)


if __name__ == "__main__":
    run_main(main)

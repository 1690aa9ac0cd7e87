"""Which benchmarks and models a command is about."""

from __future__ import annotations

import argparse

from eval.models import ALL, pick
from wrpo.errors import RecipeError
from wrpo.evaluation_stages import model_names
from wrpo.recipe import Recipe


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--benchmark` and `--model`."""
    parser.add_argument(
        "--benchmark",
        default=ALL,
        metavar="NAME",
        help="alpaca_eval_2, arena_hard, mt_bench, or all of the recipe (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        default=ALL,
        metavar="NAME",
        help="target, a source, sft, wrpo, an arm, or all (default: %(default)s)",
    )


def chosen(recipe: Recipe, benchmark: str, model: str) -> tuple[list[str], list[str]]:
    """Benchmarks and models that the flags ask for.

    Raises:
        RecipeError: the recipe has no such benchmark or model.
    """
    benchmarks = [str(name) for name in recipe.eval.judged]
    if not benchmarks:
        raise RecipeError(
            "eval.judged is empty: name a benchmark and its judge in the recipe, e.g. "
            "'eval.judged.mt_bench={judge: NAME}', with the judge under judges (docs/judges.md)"
        )
    return (
        pick("benchmark", benchmark, benchmarks, run=recipe.run),
        pick("model", model, model_names(recipe), run=recipe.run),
    )

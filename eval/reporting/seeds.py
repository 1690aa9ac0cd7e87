"""Puts finished runs of one recipe with different seeds together.

The unit is the seed: each run gives one mean per model and one difference per comparison. A seed
changes data, sampling and training at once, so its spread is the one that a claim has to survive.
"""

from __future__ import annotations

from dataclasses import dataclass

from eval.reporting.board import Board
from eval.reporting.compare import FUSED, Comparison, fused_in_words, opponents, with_holm
from eval.reporting.evidence import Evidence
from eval.reporting.judged_table import judged_tables
from wrpo.pipeline.folder import key_differences
from wrpo.recipe import Recipe
from wrpo.statistics.estimates import t_interval

BEST_SOURCE = "best single source"


@dataclass(frozen=True)
class SeedScores:
    """One task over several runs.

    Attributes:
        means: metric, then model, then one mean per run.
        differences: metric, then opponent, then one value of the fused model minus it per run.
        labels: opponent to its name in words.
        fused: the fused model in words.
    """

    board: Board
    means: dict[str, dict[str, list[float]]]
    differences: dict[str, dict[str, list[float]]]
    labels: dict[str, str]
    fused: str

    def comparisons(self, metric: str) -> list[Comparison]:
        """The fused model against each opponent with Student's t interval over seeds."""
        found = [
            Comparison(
                task=self.board.task,
                metric=metric,
                fused=self.fused,
                other=name,
                label=self.labels[name],
                estimate=t_interval(values),
                direction=self.board.direction(metric),
            )
            for name, values in self.differences[metric].items()
        ]
        return with_holm(found)


def judged_alike(runs: list[Evidence]) -> list[list[Board]]:
    """Benchmarks that one judge scored in every run, one board per run.

    Numbers of different judges never share a column, so what a run has from another judge is left
    to the report of that run.
    """
    by_run = [
        {
            table.identity: board
            for table in judged_tables(run)
            if (board := table.board()) is not None
        }
        for run in runs
    ]
    shared = [identity for identity in by_run[0] if all(identity in found for found in by_run)]
    return [[found[identity] for found in by_run] for identity in shared]


def seed_scores(recipes: list[Recipe], found: list[Board]) -> SeedScores:
    """Means and differences of the models and metrics that all runs have, run by run."""
    first = found[0]
    models = [name for name in first.models if all(name in board.models for board in found)]
    metrics = [name for name in first.metrics if all(name in board.metrics for board in found)]
    means = {
        metric: {name: [_mean(board, name, metric) for board in found] for name in models}
        for metric in metrics
    }
    labels: dict[str, str] = {}
    differences = {}
    for metric in [name for name in first.headline if name in metrics]:
        per_run = [
            _differences(recipe, board, metric)
            for recipe, board in zip(recipes, found, strict=True)
        ]
        shared = [name for name in per_run[0] if all(name in values for values in per_run)]
        differences[metric] = {name: [values[name][1] for values in per_run] for name in shared}
        labels |= {name: per_run[0][name][0] for name in shared}
    return SeedScores(first, means, differences, labels, fused_in_words(recipes[0]))


def _differences(recipe: Recipe, board: Board, metric: str) -> dict[str, tuple[str, float]]:
    """By opponent: its name in words, and the fused model minus it; each run has its best one."""
    if FUSED not in board.models:
        return {}
    fused = _mean(board, FUSED, metric)
    found = {}
    for name, label in opponents(recipe, board, metric).items():
        is_source = name in recipe.sources
        key = BEST_SOURCE if is_source else name
        words = "the best single source (of each run)" if is_source else label
        found[key] = (words, fused - _mean(board, name, metric))
    return found


def _mean(board: Board, model: str, metric: str) -> float:
    return float(board.column(model, metric).mean())


def recipe_differences(recipes: list[Recipe]) -> dict[str, list[str]]:
    """By run: the recipe fields in which it differs from the first run."""
    dumps = [recipe.model_dump(mode="json") for recipe in recipes]
    return {
        recipe.run: key_differences(dumps[0], dump)
        for recipe, dump in zip(recipes[1:], dumps[1:], strict=True)
    }

"""Writes the report over several seeds of one recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.board import boards
from eval.evidence import Evidence, read_run_folder
from eval.output import write_report
from eval.sections.seeds import seeds
from eval.seeds import SeedScores, judged_alike, recipe_differences, seed_scores
from wrpo.errors import DataError, RecipeError
from wrpo.recipe import Recipe
from wrpo.recipe.suite import evaluated_tasks


def report_seeds(folders: list[Path], out: Path) -> None:
    """Writes the report over several runs into `out`.

    Raises:
        MissingInputError: a folder is not a run, or has no evaluations.
        DataError: the runs were evaluated on different tasks, or are not of different seeds.
    """
    runs = [read_run_folder(folder) for folder in folders]
    _check_same_kind(runs)
    recipes = [run.recipe for run in runs]
    by_run = [boards(run) for run in runs]
    counts = {run.recipe.run: len(found) for run, found in zip(runs, by_run, strict=True)}
    if len(set(counts.values())) > 1:
        raise DataError(f"the runs have results of different numbers of tasks: {counts}")
    by_task = [seed_scores(recipes, list(found)) for found in zip(*by_run, strict=True)]
    by_task += [seed_scores(recipes, found) for found in judged_alike(runs)]
    write_report(out, f"{len(runs)} seeds", _numbers(by_task, recipes), seeds(by_task, runs))


def _check_same_kind(runs: list[Evidence]) -> None:
    if len(runs) < 2:
        raise RecipeError("--runs needs two run folders or more")
    tasks = {run.recipe.run: evaluated_tasks(run.recipe.eval) for run in runs}
    if len({tuple(names) for names in tasks.values()}) > 1:
        raise DataError(f"the runs were evaluated on different tasks: {tasks}")
    used = [run.recipe.seed for run in runs]
    if len(set(used)) < len(used):
        raise DataError(
            f"the runs have the seeds {used}; repeats need a seed each: make run RECIPE=... "
            "SET='seed=N run=NAME'"
        )


def _numbers(by_task: list[SeedScores], recipes: list[Recipe]) -> dict[str, Any]:
    return {
        "runs": {recipe.run: recipe.seed for recipe in recipes},
        "tasks": {
            scores.board.task: {
                "means": scores.means,
                "differences": scores.differences,
                "comparisons": {
                    metric: scores.comparisons(metric) for metric in scores.differences
                },
            }
            for scores in by_task
        },
        "recipe_differences": recipe_differences(recipes),
    }

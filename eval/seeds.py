"""Puts finished runs of one recipe with different seeds together.

The unit is the seed: each run gives one mean per model and one difference per comparison. A seed
changes data, sampling and training at once, so its spread is the one that a claim has to survive.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.board import ORACLE, Board, boards
from eval.charts import Range, range_chart
from eval.compare import Comparison, opponents, with_holm
from eval.evidence import Evidence, read_run_folder
from eval.judged import judged_tables
from eval.names import FUSED, display_name, fused_in_words
from eval.output import write_report
from eval.page import Block, Code, Details, Figures, Heading, Items, Paragraph, Table, number
from eval.sections.common import fused_row, interval, model_hue
from eval.sections.verdict import NOT_EVALUATED, differences, words
from eval.statistics import LEVEL, SIGNIFICANCE, Estimate, standard_deviation, t_interval
from eval.verdict import sentence
from wrpo.errors import DataError, RecipeError
from wrpo.recipe import Recipe
from wrpo.recipe.suite import evaluated_tasks
from wrpo.stage_folder import key_differences

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
    write_report(out, f"{len(runs)} seeds", _numbers(by_task, recipes), _blocks(by_task, runs))


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


def _check_same_kind(runs: list[Evidence]) -> None:
    if len(runs) < 2:
        raise RecipeError("--runs needs two run folders or more")
    tasks = {run.recipe.run: evaluated_tasks(run.recipe.eval) for run in runs}
    if len({tuple(names) for names in tasks.values()}) > 1:
        raise DataError(f"the runs were evaluated on different tasks: {tasks}")
    seeds = [run.recipe.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise DataError(
            f"the runs have the seeds {seeds}; repeats need a seed each: make run RECIPE=... "
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
        "recipe_differences": _recipe_differences(recipes),
    }


def _blocks(by_task: list[SeedScores], runs: list[Evidence]) -> list[Block]:
    recipes = [run.recipe for run in runs]
    blocks: list[Block] = [
        Heading(f"{len(runs)} seeds of one recipe", 1),
        Paragraph("Runs: " + ", ".join(f"{r.run} (seed {r.seed})" for r in recipes) + "."),
        Heading("Verdict"),
    ]
    compared = [
        (scores, metric, scores.comparisons(metric))
        for scores in by_task
        for metric in scores.differences
    ]
    if not any(comparisons for _, _, comparisons in compared):
        blocks.append(Paragraph(NOT_EVALUATED, "lead"))
    compared = [found for found in compared if found[2]]
    blocks += [Paragraph(words(found, unit="seeds"), "lead") for _, _, found in compared]
    for scores, metric, comparisons in compared:
        blocks += _differences_by_seed(scores, metric, comparisons, recipes)
    blocks.append(Paragraph(SEEDS_NOTE, "note"))
    for scores in by_task:
        blocks += _score_table(scores, recipes)
    return [*blocks, *_provenance(runs)]


SEEDS_NOTE = (
    f"Intervals are Student's t over seeds, {LEVEL:.0%}; each seed counts once, however many "
    "prompts it has. A difference is shown when its interval leaves out 0 and its p, after Holm's "
    f"correction for all comparisons on the metric, is below {SIGNIFICANCE:.2f}. With few seeds "
    "intervals are wide; “no difference shown” then says little. sd is the standard deviation over "
    "seeds."
)


def _differences_by_seed(
    scores: SeedScores, metric: str, comparisons: list[Comparison], recipes: list[Recipe]
) -> list[Block]:
    seeds = [f"seed {recipe.seed}" for recipe in recipes]
    rows = []
    for c in comparisons:
        values = scores.differences[metric][c.other]
        by_seed = [number(value, signed=True) for value in values]
        mean, sd = number(c.estimate.value, signed=True), number(standard_deviation(values))
        rows.append([c.label, *by_seed, mean, sd])
    details: list[Block] = [
        Table([f"{scores.fused} −", *seeds, "mean", "sd"], rows),
        Items([sentence(comparison, unit="seeds") for comparison in comparisons]),
    ]
    return [
        differences(comparisons),
        Details(f"By seed, and in sentences ({scores.board.task}, {metric})", details),
    ]


def _score_table(scores: SeedScores, recipes: list[Recipe]) -> list[Block]:
    models = list(next(iter(scores.means.values())))
    names = {m: m if m == ORACLE else display_name(recipes[0], m) for m in models}
    over_seeds = {
        metric: {model: t_interval(by_model[model]) for model in models}
        for metric, by_model in scores.means.items()
    }
    rows = [
        [
            names[model],
            *(_mean_and_spread(scores.means[m][model], e[model]) for m, e in over_seeds.items()),
        ]
        for model in models
    ]
    charts = [
        range_chart(
            [
                _seed_range(names[m], scores.means[metric][m], model_hue(recipes[0], m))
                for m in models
            ],
            title=f"{scores.board.task}: {metric}, mean and range over seeds",
        )
        for metric in scores.differences
    ]
    return [
        Heading(f"Scores on {scores.board.task}"),
        Paragraph(f"Mean over {len(recipes)} seeds with its {LEVEL:.0%} interval, then the sd."),
        Table(["model", *scores.means], rows, strong=fused_row(models)),
        Figures(charts),
    ]


def _seed_range(label: str, values: list[float], colour: int) -> Range:
    return Range(label, min(values), sum(values) / len(values), max(values), colour=colour)


def _mean_and_spread(values: list[float], estimate: Estimate) -> str:
    spread = f", sd {number(standard_deviation(values))}" if len(values) > 1 else ""
    return interval(estimate, tail=spread)


def _provenance(runs: list[Evidence]) -> list[Block]:
    recipes = [run.recipe for run in runs]
    blocks: list[Block] = [Heading("Provenance")]
    for name, lines in _recipe_differences(recipes).items():
        title = f"How the recipe of {name} differs from that of {recipes[0].run}"
        blocks.append(Details(title, [Code("\n".join(lines) or "(it does not)")]))
    missing = [f"{r.recipe.run}: {name}" for r in runs for name in r.missing()]
    if missing:
        blocks += [Paragraph("Not evaluated, and left out for all runs:"), Items(missing)]
    return blocks


def _recipe_differences(recipes: list[Recipe]) -> dict[str, list[str]]:
    """By run: the recipe fields in which it differs from the first run."""
    dumps = [recipe.model_dump(mode="json") for recipe in recipes]
    return {
        recipe.run: key_differences(dumps[0], dump)
        for recipe, dump in zip(recipes[1:], dumps[1:], strict=True)
    }

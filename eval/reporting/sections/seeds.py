"""The report over several seeds: verdict, differences by seed, scores, provenance."""

from __future__ import annotations

from eval.reporting.account import Accounts
from eval.reporting.board import ORACLE
from eval.reporting.charts import Range, range_chart
from eval.reporting.compare import Comparison, display_name
from eval.reporting.evidence import Evidence
from eval.reporting.page import (
    Block,
    Code,
    Details,
    Figures,
    Heading,
    Items,
    PageTable,
    Paragraph,
    number,
)
from eval.reporting.sections.account import budget_note
from eval.reporting.sections.common import fused_row, interval, model_hue
from eval.reporting.sections.verdict import (
    NOT_EVALUATED,
    sentence,
    verdict_differences,
    verdict_words,
)
from eval.reporting.seeds import SeedScores, recipe_differences
from wrpo.recipe import Recipe
from wrpo.statistics.estimates import LEVEL, SIGNIFICANCE, Estimate, standard_deviation, t_interval


def seeds(by_task: list[SeedScores], runs: list[Evidence]) -> list[Block]:
    """The whole page, from the scores of each task and what the runs left."""
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
    blocks += [Paragraph(verdict_words(found, unit="seeds"), "lead") for _, _, found in compared]
    blocks += budget_note([Accounts(run) for run in runs])
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
        PageTable([f"{scores.fused} −", *seeds, "mean", "sd"], rows),
        Items([sentence(comparison, unit="seeds") for comparison in comparisons]),
    ]
    return [
        verdict_differences(comparisons),
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
        PageTable(["model", *scores.means], rows, strong=fused_row(models)),
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
    for name, lines in recipe_differences(recipes).items():
        title = f"How the recipe of {name} differs from that of {recipes[0].run}"
        blocks.append(Details(title, [Code("\n".join(lines) or "(it does not)")]))
    missing = [f"{r.recipe.run}: {name}" for r in runs for name in r.missing()]
    if missing:
        blocks += [Paragraph("Not evaluated, and left out for all runs:"), Items(missing)]
    return blocks

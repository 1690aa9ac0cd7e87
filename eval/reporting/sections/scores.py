"""Models by benchmarks, by groups of prompts, and against each other."""

from __future__ import annotations

import math

from eval.reporting.board import ORACLE, Board
from eval.reporting.charts import Chart, Range, radar_chart, range_chart
from eval.reporting.compare import FUSED
from eval.reporting.page import Block, Figures, Heading, PageTable, Paragraph, measured, number
from eval.reporting.sections.common import fused_row, interval, model_hue, model_label
from wrpo.recipe import TARGET, Recipe
from wrpo.statistics.estimates import LEVEL, SIGNIFICANCE, Estimate
from wrpo.statistics.intervals import FEWEST_VARIED, RESAMPLES

_NOTE = (
    "characters: mean length of a response. "
    f"Brackets are {LEVEL:.0%} intervals over prompts: Wilson's for shares of 0s and 1s, a "
    f"studentised bootstrap for other scores ({RESAMPLES:,} resamples, fixed seed); Student's t, "
    f"which may be too narrow, where fewer than {FEWEST_VARIED} prompts score otherwise than the "
    "rest, and none where all score the same. They say how far the numbers depend on which prompts "
    "were drawn, not how far they depend on the training seed; for that, repeat the run with other "
    "seeds and use `python -m eval.report --runs`."
)
ORACLE_NOTE = (
    f"**{ORACLE}**: for each prompt the response of whichever source scores best there, by "
    "{metric} (the first of equals); all columns are those of that response. It picks with the "
    "reference scores in hand, so it is an upper line for imitating the sources, not a model."
)
WINS_NOTE = (
    "Share of prompts on which the model of the row scores better than that of the column, ties "
    f"counting half, with Tango's {LEVEL:.0%} interval. ▲ and ▼: the share is not one half after "
    f"Holm's correction over all pairs (p below {SIGNIFICANCE:.2f})."
)
_FEWEST_SPOKES, _MOST_SPOKES = 3, 12
_MOST_SOURCES_IN_RADAR = 3

Scores = dict[str, dict[str, Estimate]]


def across(recipe: Recipe, boards: list[Board], scores: dict[str, Scores]) -> list[Block]:
    """All models on all benchmarks, by the headline metrics; empty for one benchmark."""
    if len(boards) < 2:
        return []
    models = list(dict.fromkeys(model for board in boards for model in board.models))
    columns = [(board, metric) for board in boards for metric in board.headline]
    rows = [
        [
            model_label(recipe, model),
            *(
                interval(scores[board.task][metric][model]) if model in board.models else "–"
                for board, metric in columns
            ),
        ]
        for model in models
    ]
    header = [
        "model",
        *(f"{board.task}, {metric} (n = {len(board.ids)})" for board, metric in columns),
    ]
    return [Heading("Models by benchmarks"), PageTable(header, rows, strong=fused_row(models))]


def scores(recipe: Recipe, board: Board, estimates: Scores) -> list[Block]:
    """Models by metrics, with intervals."""
    rows = [
        [
            model_label(recipe, model),
            *(interval(estimates[metric][model]) for metric in board.metrics),
            number(board.lengths.get(model, math.nan), digits=0),
        ]
        for model in board.models
    ]
    blocks: list[Block] = [
        Heading(f"Scores on {board.task}"),
        Paragraph(f"{len(board.ids)} prompts, the same for every model."),
        PageTable(["model", *board.metrics, "characters"], rows, strong=fused_row(board.models)),
        Paragraph(_NOTE, "note"),
    ]
    if ORACLE in board.models:
        blocks.append(Paragraph(ORACLE_NOTE.format(metric=board.primary), "note"))
    charts = [_chart(recipe, board, metric, estimates[metric]) for metric in board.headline]
    return [*blocks, Figures(charts)]


def by_group(recipe: Recipe, board: Board, groups: dict[str, Scores], *, what: str) -> list[Block]:
    """Models by groups (skills, subtasks): a radar of the main models, and one table per metric."""
    if not groups:
        return []
    blocks: list[Block] = [Heading(f"{board.task} by {what}", 3)]
    charts = [_radar(recipe, board, metric, found) for metric, found in groups.items()]
    blocks.append(Figures([chart for chart in charts if chart is not None]))
    for metric, found in groups.items():
        sizes = {group: next(iter(models.values())).n for group, models in found.items()}
        header = [metric, *(f"{group} (n = {sizes[group]})" for group in found)]
        highest = max(abs(e.value) for models in found.values() for e in models.values())
        rows = [
            [
                model_label(recipe, model),
                *(
                    interval(models[model], digits=2, share=_share(models[model].value, highest))
                    for models in found.values()
                ),
            ]
            for model in board.models
        ]
        blocks.append(PageTable(header, rows, strong=fused_row(board.models)))
    return blocks


def who_beats_whom(
    recipe: Recipe, board: Board, matrix: dict[str, dict[str, Estimate]]
) -> list[Block]:
    """Every model against every other one, prompt by prompt."""
    if len(board.models) < 2:
        return []
    rows = [
        [model_label(recipe, row), *(_win(matrix[row].get(column)) for column in board.models)]
        for row in board.models
    ]
    header = ["row wins over", *board.models]
    return [
        Heading(f"Who beats whom on {board.task}", 3),
        Paragraph(f"By {board.primary}, on {len(board.ids)} prompts."),
        PageTable(header, rows, strong=fused_row(board.models)),
        Paragraph(WINS_NOTE, "note"),
    ]


def _win(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    mark = ""
    if estimate.p < SIGNIFICANCE:
        mark = "▲ " if estimate.value > 0.5 else "▼ "
    value, low, high = (f"{100 * x:.0f}" for x in (estimate.value, estimate.low, estimate.high))
    return measured(f"{mark}{value}% [{low}, {high}]", share=estimate.value)


def _chart(recipe: Recipe, board: Board, metric: str, estimates: dict[str, Estimate]) -> Chart:
    rows = [
        Range(model_label(recipe, model), e.low, e.value, e.high, colour=model_hue(recipe, model))
        for model, e in estimates.items()
    ]
    return range_chart(rows, title=f"{board.task}: {metric}")


def _radar(recipe: Recipe, board: Board, metric: str, groups: Scores) -> Chart | None:
    """The fused model with those it grew from; None where the groups make no good radar."""
    values = [e.value for models in groups.values() for e in models.values()]
    if not _FEWEST_SPOKES <= len(groups) <= _MOST_SPOKES or min(values) < 0 or max(values) <= 0:
        return None
    sources = [name for name in recipe.sources if name in board.models]
    if len(sources) > _MOST_SOURCES_IN_RADAR:
        sources = [board.best(sources, metric)]
    names = [name for name in (FUSED, "sft", TARGET, *sources) if name in board.models]
    series = {
        model_label(recipe, name): [models[name].value for models in groups.values()]
        for name in names
    }
    return radar_chart(list(groups), series, title=f"{board.task}: {metric}")


def _share(value: float, highest: float) -> float:
    return value / highest if highest > 0 else 0.0

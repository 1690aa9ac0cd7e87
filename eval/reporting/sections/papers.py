"""The papers' numbers beside ours, in columns of their own."""

from __future__ import annotations

from eval.reporting.compare import FUSED, display_name
from eval.reporting.page import Block, Details, Heading, PageTable, Paragraph, number
from eval.reporting.papers import Paper, PaperRow
from eval.reporting.sections.common import interval
from wrpo.recipe import TARGET, Recipe

_NOTE = (
    "Columns of the paper hold what it published, those of this run what was measured here; "
    "“–” is not evaluated. The paper gives no intervals. Read a row only as far as its last column "
    "allows: another judge, template, decoding or data of the benchmark gives another number."
)


def papers_section(recipe: Recipe, found: list[Paper]) -> list[Block]:
    """One table per paper whose target is the run's; nothing where there is none."""
    if not found:
        return []
    blocks: list[Block] = [Heading("The papers' numbers"), Paragraph(_NOTE, "note")]
    for paper in found:
        blocks += _paper(recipe, paper)
    return blocks


def _paper(recipe: Recipe, paper: Paper) -> list[Block]:
    ours = (TARGET, "sft", *recipe.fused_models[1:], *recipe.arms, *recipe.merges, FUSED)
    measured = [name for name in ours if any(name in row.ours for row in paper.rows)]
    name = paper.title.partition(" (")[0]
    header = [
        "benchmark",
        *(f"this run: {display_name(recipe, model)}" for model in measured),
        *(f"paper: {model}" for model in paper.shown),
        "same and different",
    ]
    rows = [
        [
            row.benchmark,
            *(interval(row.ours[m], digits=1) if m in row.ours else "–" for m in measured),
            *(number(row.published[model], digits=_digits(row)) for model in paper.shown),
            _differs(row),
        ]
        for row in paper.rows
    ]
    blocks: list[Block] = [
        Heading(paper.title, 3),
        Paragraph(paper.settings),
        PageTable(header, rows),
    ]
    if paper.others:
        others = [
            [model, *(f"{value:g}" for value in values)] for model, values in paper.others.items()
        ]
        table = PageTable(["model", *(row.benchmark for row in paper.rows)], others)
        blocks.append(
            Details(f"Other models of the paper's table, as {name} published it", [table])
        )
    return blocks


def _digits(row: PaperRow) -> int:
    """As many decimals as the paper has."""
    return max(len(repr(value).partition(".")[2]) for value in row.published.values())


def _differs(row: PaperRow) -> str:
    if not row.task:
        return "Not evaluated in this run."
    judge = f" Our judge: {row.judge}." if row.judge else ""
    return f"`{row.task}`. {row.differs}{judge}"

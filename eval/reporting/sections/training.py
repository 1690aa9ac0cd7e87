"""Training curves: all models together, then each one."""

from __future__ import annotations

from eval.reporting import curves
from eval.reporting.compare import display_name
from eval.reporting.evidence import Evidence
from eval.reporting.page import Block, Details, Figures, Heading, PageTable, Paragraph

_NOTE = (
    "Rewards are beta times the log-ratio to the SFT model, so all start at 0. Falling rewards of "
    "the preferred responses are common; what counts is that rejected ones fall faster (the "
    "accuracies rise). Losses of different objectives are on different scales."
)


def training_section(evidence: Evidence) -> list[Block]:
    """Curves of every trained model."""
    blocks: list[Block] = [Heading("Training")]
    if not evidence.histories:
        return [*blocks, Paragraph("No training log was found.")]
    names = {name: display_name(evidence.recipe, name) for name in evidence.histories}
    arms = {names[name]: log for name, log in evidence.histories.items() if name != "sft"}
    together = curves.charts_across(arms)
    shared = {chart.title for chart in together if chart.title != "loss"}
    blocks.append(Paragraph(_NOTE, "note"))
    if together:
        blocks.append(Figures(together))
    for name, history in evidence.histories.items():
        ends = curves.endpoints(history)
        rows = [[metric, f"{first:.4g}", f"{last:.4g}"] for metric, (first, last) in ends.items()]
        more: list[Block] = [
            Figures(curves.charts(history, first=False)),
            PageTable(["metric", "first", "last"], rows),
        ]
        blocks += [
            Heading(names[name], 3),
            Figures([c for c in curves.charts(history, first=True) if c.title not in shared]),
            Details(f"More of {names[name]}: other curves, first and last values", more),
        ]
    return blocks

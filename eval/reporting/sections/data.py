"""The data page: winners, scores, lengths, what was cut and what was dropped."""

from __future__ import annotations

from typing import Any

from eval.reporting.charts import Range, bar_chart, line_chart, range_chart
from eval.reporting.page import Beside, Block, Figures, Heading, PageTable, Paragraph, number
from eval.reporting.sections.common import interval
from wrpo.rows.truncation import TokenLimits
from wrpo.statistics.estimates import LEVEL

LENGTH_NOTE = (
    "Rank correlation (Spearman) between tokens and score among the responses to one prompt, mean "
    f"over prompts with its {LEVEL:.0%} interval: 0 where length does not matter, 1 where the "
    "longer response always scores higher. “All sampled sources” puts the responses of all of them "
    "to a prompt together, as the choice of y_ws does. A right response may need to be long; judge "
    "it with the next table, which says whether training then prefers long responses."
)


def data(facts: dict[str, Any]) -> list[Block]:
    """Winners, score distributions, lengths, counts and dropped rows."""
    blocks: list[Block] = [Heading("Data")]
    for stage, winners in facts["winners"].items():
        blocks += _winners(stage, winners)
    blocks += _distributions("Scores of all sampled responses", facts["scores"])
    for stage, responses in facts["responses"].items():
        blocks += _distributions(f"Scores in {stage}", responses)
    blocks += _lengths(facts["lengths"])
    blocks += _length_bias(facts["length_bias"])
    for stage, counts in facts["truncation"].items():
        blocks += _truncation(stage, counts)
    return [*blocks, *_dropped(facts["stages"])]


def _winners(stage: str, winners: dict[str, dict[str, float]]) -> list[Block]:
    rows = [
        [who, str(f["rows"]), f"{f['share']:.1%}", number(f["mean_score"])]
        for who, f in winners.items()
    ]
    shares = {who: 100 * f["share"] for who, f in winners.items()}
    title = f"Who wrote the preferred responses of {stage}"
    return [
        Heading(title, 3),
        Beside(
            [
                PageTable(["source", "rows", "share", "mean score"], rows),
                Figures(
                    [bar_chart(shares, title=f"{stage}: share of preferred responses", unit="%")]
                ),
            ]
        ),
    ]


def _lengths(lengths: dict[str, dict[str, float]]) -> list[Block]:
    columns = ("mean", "q05", "q50", "q95")
    rows = [
        [
            name,
            str(f["n"]),
            *(number(f[column], digits=1) for column in columns),
            *(f"{f[share]:.1%}" for share in ("cut", "thinking")),
        ]
        for name, f in lengths.items()
        if f["n"]
    ]
    if not rows:
        return []
    header = ["source", "responses", "mean", "5%", "median", "95%", "cut at max_tokens", "thoughts"]
    return [Heading("Lengths of sampled responses (tokens)", 3), PageTable(header, rows)]


def _length_bias(facts: dict[str, Any]) -> list[Block]:
    if not facts["correlation"] and not facts["rows"]:
        return []
    blocks: list[Block] = [Heading("Length bias", 3)]
    if facts["correlation"]:
        rows = [
            [name, interval(e, signed=True), str(e.n)] for name, e in facts["correlation"].items()
        ]
        header = ["responses of", "correlation of length and score", "prompts"]
        blocks += [PageTable(header, rows), Paragraph(LENGTH_NOTE, "note")]
    if facts["rows"]:
        rows = [
            [
                stage,
                interval(f["longer"]),
                number(f["chosen"], digits=1),
                number(f["rejected"], digits=1),
            ]
            for stage, f in facts["rows"].items()
        ]
        header = ["table", "share of rows with the longer response chosen", "chosen", "rejected"]
        blocks.append(PageTable(header, rows))
    curves = {name: points for name, points in facts["curves"].items() if len(points) > 1}
    if curves:
        title = "Mean score by length, tenths of each source's responses"
        blocks.append(Figures([line_chart(curves, title=title, x_label="tokens")]))
    return blocks


def _truncation(stage: str, counts: dict[str, Any]) -> list[Block]:
    lost = {f"{name} loses tokens": rows for name, rows in counts["cut"].items()}
    lost["not trained on: the prompt fills max_length"] = counts["dropped"]
    lost["not trained on: responses are equal once they are cut"] = counts.get("equal", 0)
    share = max(1, counts["rows"])
    rows = [[what, str(n), f"{n / share:.1%}"] for what, n in lost.items()]
    limits = TokenLimits(**counts["limits"]).describe()
    return [
        Heading(f"Truncation of {stage}", 3),
        Paragraph(f"Counted for {limits}. A response that loses tokens loses its end of turn."),
        PageTable(["what", "rows", "share"], rows),
    ]


def _dropped(stages: dict[str, dict[str, Any]]) -> list[Block]:
    rows = [
        [
            name,
            str(f["rows"]),
            str(f["dropped"]),
            ", ".join(f"{reason}: {n}" for reason, n in f["reasons"].items()) or "–",
        ]
        for name, f in stages.items()
    ]
    header = ["stage", "rows", "dropped", "reasons"]
    return [Heading("Rows kept and dropped", 3), PageTable(header, rows)]


def _distributions(title: str, by_name: dict[str, dict[str, float]]) -> list[Block]:
    filled = {name: facts for name, facts in by_name.items() if facts["n"]}
    if not filled:
        return []
    columns = ("n", "mean", "q05", "q25", "q50", "q75", "q95")
    rows = [
        [name, str(f["n"]), *(number(f[column]) for column in columns[1:])]
        for name, f in filled.items()
    ]
    chart = range_chart(
        [
            Range(name, f["q05"], f["q50"], f["q95"], inner=(f["q25"], f["q75"]), colour=place)
            for place, (name, f) in enumerate(filled.items())
        ],
        title=f"{title}: median, middle 50% and 90%",
    )
    header = ["responses of", "count", "mean", "5%", "25%", "median", "75%", "95%"]
    return [Heading(title, 3), Beside([PageTable(header, rows), Figures([chart])])]

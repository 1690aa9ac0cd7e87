"""The sections of a report on one run, each a list of blocks."""

from __future__ import annotations

import math
from typing import Any

from eval import curves
from eval.board import ORACLE, Board
from eval.compare import FUSED, Comparison
from eval.evidence import Evidence, display_name
from eval.intervals import RESAMPLES
from eval.page import (
    Block,
    Code,
    Details,
    Figures,
    Heading,
    Items,
    Paragraph,
    Table,
    Verbatim,
    number,
)
from eval.statistics import LEVEL, SIGNIFICANCE, Estimate
from eval.svg import Range, range_chart
from eval.verdict import overview, sentence
from wrpo.recipe import Recipe, dump_recipe
from wrpo.truncation import Limits

SCORES_NOTE = (
    "characters: mean length of an answer. "
    f"Brackets are {LEVEL:.0%} intervals over prompts: Wilson's for shares of 0s and 1s, a "
    f"studentised bootstrap for other scores ({RESAMPLES:,} resamples, fixed seed). They say how "
    "far the numbers depend on which prompts were drawn, not how far they depend on the training "
    "seed; for that, repeat the run with other seeds and use `python -m eval.report --runs`."
)
ORACLE_NOTE = (
    f"**{ORACLE}**: for each prompt the answer of whichever source scores best there, by "
    "{metric} (the first of equals); all columns are those of that answer. It picks with the gold "
    "scores in hand, so it is an upper line for imitating the sources, not a model."
)


def verdict(comparisons: list[list[Comparison]], missing: dict[str, str]) -> list[Block]:
    """Words first, then the numbers behind them; one list per task and metric."""
    blocks: list[Block] = [Heading("Verdict")]
    for same_metric in comparisons:
        where = f"On **{same_metric[0].task}**, by **{same_metric[0].metric}**: "
        blocks.append(Paragraph(where + overview(same_metric)))
        blocks.append(Items([sentence(comparison) for comparison in same_metric]))
    if not comparisons:
        blocks.append(Paragraph("WRPO is not evaluated, so there is nothing to compare."))
    if missing:
        blocks.append(Paragraph("Not in this report, because not evaluated with these settings:"))
        lines = [f"{name}, {state_and_command(text)}" for name, text in missing.items()]
        blocks.append(Items(lines))
    if comparisons:
        blocks.append(difference_table([c for group in comparisons for c in group]))
        blocks.append(Paragraph(DIFFERENCE_NOTE))
        blocks.append(Figures([difference_chart(group) for group in comparisons]))
    return blocks


DIFFERENCE_NOTE = (
    "Differences are WRPO minus the other model on the same prompts (paired), with Tango's "
    "interval for scores of 0 and 1 and a studentised bootstrap for others. A difference is shown "
    f"when its {LEVEL:.0%} interval leaves out 0 and its p, after Holm's correction for all "
    f"comparisons on the same metric, is below {SIGNIFICANCE:.2f}. “No difference shown” does not mean that the "
    "models are equal. The best single source is the one with "
    "the best mean on these prompts, which favours it slightly. All of this is one run with one "
    "training seed."
)


def state_and_command(text: str) -> str:
    """`state: command` with the command as code."""
    state, _, command = text.partition(": ")
    return f"{state}: `{command}`"


def difference_table(comparisons: list[Comparison]) -> Table:
    """One row per comparison."""
    rows = [
        [
            f"{c.task}, {c.metric}",
            f"WRPO − {c.label}",
            number(c.estimate.value, signed=True),
            f"{number(c.estimate.low, signed=True)} to {number(c.estimate.high, signed=True)}",
            p_value(c.estimate.p),
            p_value(c.holm_p),
        ]
        for c in comparisons
    ]
    return Table(["metric", "comparison", "difference", "interval", "p", "Holm p"], rows)


def difference_chart(comparisons: list[Comparison]) -> str:
    """WRPO minus each other model."""
    first = comparisons[0]
    rows = [
        Range(c.other, c.estimate.low, c.estimate.value, c.estimate.high, colour=_hue(c.outcome))
        for c in comparisons
    ]
    return range_chart(rows, title=f"{first.task}: {first.metric}, WRPO minus …", zero=True)


def p_value(p: float) -> str:
    """A p-value, never shown as 0."""
    return "< 0.001" if p < 0.001 else number(p)


def scores(recipe: Recipe, board: Board, estimates: dict[str, dict[str, Estimate]]) -> list[Block]:
    """Models by metrics, with intervals."""
    rows = [
        [
            _label(recipe, model),
            *(interval(estimates[metric][model]) for metric in board.metrics),
            number(board.lengths.get(model, math.nan), digits=0),
        ]
        for model in board.models
    ]
    charts = [
        range_chart(
            [
                Range(
                    _label(recipe, model), e.low, e.value, e.high, colour=_model_hue(recipe, model)
                )
                for model, e in estimates[metric].items()
            ],
            title=f"{board.task}: {metric}",
        )
        for metric in board.headline
    ]
    blocks: list[Block] = [
        Heading(f"Scores on {board.task}"),
        Paragraph(f"{len(board.ids)} prompts, the same for every model."),
        Table(["model", *board.metrics, "characters"], rows, strong=_fused_row(board.models)),
        Paragraph(SCORES_NOTE),
        Figures(charts),
    ]
    if ORACLE in board.models:
        blocks.insert(3, Paragraph(ORACLE_NOTE.format(metric=board.primary)))
    return blocks


def by_group(
    recipe: Recipe, board: Board, estimates: dict[str, dict[str, dict[str, Estimate]]]
) -> list[Block]:
    """Models by groups (skills, subtasks), one table per headline metric."""
    if not estimates:
        return []
    what = recipe.eval.group_by if recipe.eval.group_by else "task"
    blocks: list[Block] = [Heading(f"{board.task} by {what}", 3)]
    for metric, groups in estimates.items():
        sizes = {group: next(iter(models.values())).n for group, models in groups.items()}
        header = [metric, *(f"{group} ({sizes[group]})" for group in groups)]
        rows = [
            [_label(recipe, model), *(_half_width(groups[group][model]) for group in groups)]
            for model in board.models
        ]
        blocks.append(Table(header, rows, strong=_fused_row(board.models)))
    blocks.append(Paragraph("± is half the width of the interval; prompts per column in brackets."))
    return blocks


def training(evidence: Evidence) -> list[Block]:
    """Curves of every trained model."""
    blocks: list[Block] = [Heading("Training")]
    if not evidence.histories:
        return [*blocks, Paragraph("No training log was found.")]
    blocks.append(
        Paragraph(
            "Rewards are beta times the log-ratio to the SFT model, so all start at 0. Falling "
            "rewards of the preferred answers are common; what counts is that rejected ones fall "
            "faster (the accuracies rise)."
        )
    )
    for name, history in evidence.histories.items():
        ends = curves.endpoints(history)
        rows = [[metric, f"{first:.4g}", f"{last:.4g}"] for metric, (first, last) in ends.items()]
        blocks.append(Heading(display_name(evidence.recipe, name), 3))
        blocks.append(Figures(curves.charts(history)))
        blocks.append(Details("First and last values", [Table(["metric", "first", "last"], rows)]))
    return blocks


def data(facts: dict[str, Any]) -> list[Block]:
    """Winners, score distributions, counts and dropped rows."""
    blocks: list[Block] = [Heading("Data")]
    for stage, winners in facts["winners"].items():
        rows = [
            [who, str(f["rows"]), f"{f['share']:.1%}", number(f["mean_score"])]
            for who, f in winners.items()
        ]
        blocks.append(Heading(f"Who wrote the preferred answers of {stage}", 3))
        blocks.append(Table(["source", "rows", "share", "mean score"], rows))
    blocks += _lengths(facts["lengths"])
    blocks += _distributions("Scores of all sampled answers", facts["scores"])
    for stage, answers in facts["answers"].items():
        blocks += _distributions(f"Scores in {stage}", answers)
    for stage, counts in facts["truncation"].items():
        blocks += _truncation(stage, counts)
    rows = [
        [
            name,
            str(f["rows"]),
            str(f["dropped"]),
            ", ".join(f"{reason}: {n}" for reason, n in f["reasons"].items()) or "–",
        ]
        for name, f in facts["stages"].items()
    ]
    blocks.append(Heading("Rows kept and dropped", 3))
    blocks.append(Table(["stage", "rows", "dropped", "reasons"], rows))
    return blocks


def answers(recipe: Recipe, shown: list[dict[str, Any]], headline: list[str]) -> list[Block]:
    """Prompts with every model's answer."""
    blocks: list[Block] = [
        Heading("Answers side by side"),
        Paragraph(f"{len(shown)} held-out prompts drawn by a hash, not picked."),
    ]
    for place, prompt in enumerate(shown, start=1):
        group = f", {prompt['group']}" if prompt["group"] else ""
        rows = [
            [
                display_name(recipe, name),
                Verbatim(answer["text"]),
                *(f"{answer['scores'][metric]:g}" for metric in headline),
            ]
            for name, answer in prompt["answers"].items()
        ]
        blocks.append(Heading(f"Prompt {place}{group}", 3))
        blocks.append(Code(f"{prompt['question']}\n\nGold answer: {prompt['gold']}"))
        blocks.append(Table(["model", "answer", *headline], rows))
    return blocks


def provenance(evidence: Evidence, stages: list[dict[str, Any]]) -> list[Block]:
    """Recipe, stages with times and keys, versions, chat templates, first prompts."""
    rows = [
        [
            stage["name"],
            stage["state"],
            stage.get("written", "–"),
            number(stage["seconds"], digits=1) if "seconds" in stage else "–",
            stage.get("key_digest", "–"),
        ]
        for stage in stages
    ]
    total = sum(stage.get("seconds", 0.0) for stage in stages)
    versions = sorted({f"{k} {v}" for s in stages for k, v in s.get("versions", {}).items()})
    models = [
        [name, r["model"]["path"], r["model"]["backend"], r["model"]["chat_template_hash"]]
        for name, r in evidence.results.items()
    ]
    return [
        Heading("Provenance"),
        Paragraph(
            f"Stages took {total:,.0f} s in all. Seconds are those of the process that finished "
            "the stage; a stage that was resumed took longer."
        ),
        Table(["stage", "state", "finished", "seconds", "key"], rows),
        Paragraph("Versions: " + ", ".join(versions) + "."),
        Table(["model", "path", "engine", "chat template"], models),
        *_first_prompts(evidence),
        Details("Resolved recipe", [Code(dump_recipe(evidence.recipe), "yaml")]),
    ]


def interval(estimate: Estimate) -> str:
    """Mean with its interval in brackets."""
    if estimate.n == 1:
        return number(estimate.value)
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def _first_prompts(evidence: Evidence) -> list[Block]:
    blocks: list[Block] = []
    for name, results in evidence.results.items():
        inner: list[Block] = []
        for task, facts in results["tasks"].items():
            first = facts["first_prompt"]
            text = f"{first['text']}\n\ntoken ids: {first['token_ids']}"
            inner += [Paragraph(task), Code(f"{text}\n{facts['generation_kwargs']}")]
        title = f"First prompt as {display_name(evidence.recipe, name)} saw it"
        blocks.append(Details(title, inner))
    return blocks


def _lengths(lengths: dict[str, dict[str, float]]) -> list[Block]:
    if not lengths:
        return []
    columns = ("mean", "q05", "q50", "q95")
    rows = [
        [name, str(f["n"]), *(number(f[column], digits=1) for column in columns), f"{f['cut']:.1%}"]
        for name, f in lengths.items()
        if f["n"]
    ]
    header = ["", "answers", "mean", "5%", "median", "95%", "cut at max_tokens"]
    return [Heading("Lengths of sampled answers (tokens)", 3), Table(header, rows)]


def _truncation(stage: str, counts: dict[str, Any]) -> list[Block]:
    lost = {f"{name} loses tokens": rows for name, rows in counts["cut"].items()}
    lost["not trained on: the prompt fills max_length"] = counts["dropped"]
    share = max(1, counts["rows"])
    rows = [[what, str(n), f"{n / share:.1%}"] for what, n in lost.items()]
    limits = Limits(**counts["limits"]).describe()
    return [
        Heading(f"Truncation of {stage}", 3),
        Paragraph(f"Counted for {limits}. An answer that loses tokens loses its end of turn."),
        Table(["", "rows", "share"], rows),
    ]


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
        title=f"{title} (median, middle 50% and 90%)",
    )
    header = ["", "answers", "mean", "5%", "25%", "median", "75%", "95%"]
    return [Heading(title, 3), Table(header, rows), Figures([chart])]


def _label(recipe: Recipe, model: str) -> str:
    return model if model == ORACLE else display_name(recipe, model)


def _half_width(estimate: Estimate) -> str:
    half = (estimate.high - estimate.low) / 2
    return f"{number(estimate.value, digits=2)} ± {number(half, digits=2)}"


def _fused_row(models: list[str]) -> frozenset[int]:
    return frozenset({models.index(FUSED)}) if FUSED in models else frozenset()


def _model_hue(recipe: Recipe, model: str) -> int:
    if model == FUSED:
        return 0
    return 7 if model in (ORACLE, *recipe.sources) else 1


def _hue(outcome: int) -> int:
    return {1: 2, -1: 5, 0: 7}[outcome]

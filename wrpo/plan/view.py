"""A plan as text: the tree of stages with state and price, then the command of each."""

from __future__ import annotations

import json
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.status import StageStatus
from wrpo.pipeline.tree import tree_lines
from wrpo.plan.formulas import short
from wrpo.plan.work import StageEstimate

TEXT_WIDTH = 100
_HEAD = ("stage", "state", "tokens", "GPU h", "dollars", "hours", "GPUxGiB")
_NOTHING = "-"
_READY = ">"


def plan_text(
    pipeline: Pipeline,
    statuses: Sequence[StageStatus],
    estimates: Sequence[StageEstimate],
    *,
    kind: str | None,
    explain: bool = False,
) -> list[str]:
    """All lines; without `estimates`, those of the stages and commands alone."""
    by_name = {status.name: status for status in statuses}
    prices = {estimate.stage: estimate for estimate in estimates}
    ready = ready_stages(pipeline, by_name)
    lines = [_heading(pipeline, statuses), ""]
    lines += _table(pipeline, by_name, prices, ready=ready, kind=kind, explain=explain)
    if prices:
        lines += ["", *_notes(estimates, kind=kind or "", explain=explain)]
    else:
        lines += ["", "no prices: there is no throughput.yaml beside the recipe or in recipes/"]
    return [*lines, "", *_commands(pipeline, by_name, ready)]


def ready_stages(pipeline: Pipeline, statuses: Mapping[str, StageStatus]) -> list[str]:
    """Stages that are not done and whose inputs are."""
    return [
        name
        for name, stage in pipeline.stages.items()
        if statuses[name].state in ("missing", "partial")
        and all(statuses[input_].state == "done" for input_ in stage.inputs)
    ]


def state_text(status: StageStatus) -> str:
    """The state, with counts while it is partial."""
    if status.state != "partial" or status.done is None:
        return status.state
    of = f"/{status.total}" if status.total is not None else ""
    return f"partial {status.done}{of} {status.unit}"


def _heading(pipeline: Pipeline, statuses: Sequence[StageStatus]) -> str:
    counts = Counter(status.state for status in statuses)
    summary = ", ".join(
        f"{counts[state]} {state}"
        for state in ("done", "partial", "stale", "missing")
        if counts[state]
    )
    folder = pipeline.recipe.runs / pipeline.recipe.run
    return f"run {pipeline.recipe.run} in {folder}: {len(statuses)} stages, {summary}"


# ---- the tree with prices ------------------------------------------------------------------------


def _table(
    pipeline: Pipeline,
    statuses: Mapping[str, StageStatus],
    prices: Mapping[str, StageEstimate],
    *,
    ready: Sequence[str],
    kind: str | None,
    explain: bool,
) -> list[str]:
    tree = tree_lines(pipeline.stages)
    decimals = decimals_of(list(prices.values()))
    rows: list[Sequence[str]] = [_HEAD if prices else _HEAD[:2]]
    for line in tree:
        mark = _READY if line.name in ready else " "
        cells = (f"{mark} {line.text}", state_text(statuses[line.name]))
        price = prices.get(line.name)
        rows.append((*cells, *_price_cells(price, decimals)) if price else cells)
    sums = _sum_rows(list(prices.values()), decimals) if prices else []
    text = _aligned([*rows, *sums])
    rule = "  " + "-" * (max(len(line) for line in text) - 2)
    shown = [text[0]]
    for line, row in zip(tree, text[1 : len(rows)], strict=True):
        shown.append(row)
        if explain and line.name in prices:
            arithmetic = explanation(prices[line.name], kind=kind or "", decimals=decimals)
            shown += _indented(arithmetic, len(line.branch) + 4)
    return [*shown, *([rule, *text[len(rows) :]] if sums else [])]


def _price_cells(estimate: StageEstimate, decimals: int) -> tuple[str, ...]:
    tokens = _NOTHING if estimate.tokens is None else short(estimate.tokens)
    if estimate.unknown:
        return (tokens, "?", "?", "?", _NOTHING)
    if not estimate.terms:
        return (tokens, _NOTHING, _NOTHING, _NOTHING, "no GPU")
    gpu_hours, dollars, hours = _amount_cells(amounts_of(estimate, decimals), decimals)
    if not estimate.gpus:
        return (tokens, _NOTHING, dollars, _NOTHING, "server")
    memory = f"{estimate.gpus} x {estimate.memory.total:,.0f}" if estimate.memory else _NOTHING
    return (tokens, gpu_hours, dollars, hours, memory)


def _sum_rows(estimates: Sequence[StageEstimate], decimals: int) -> list[Sequence[str]]:
    priced = [estimate for estimate in estimates if not estimate.unknown]
    plus = " (of what has a price)" if len(priced) < len(estimates) else ""
    rows: list[Sequence[str]] = []
    for name, amounts in (
        (f"  whole run{plus}", total([amounts_of(each, decimals) for each in priced])),
        ("  left to do", total([left_of(each, decimals) for each in priced])),
    ):
        rows.append((name, "", "", *_amount_cells(amounts, decimals), ""))
    return rows


def _amount_cells(amounts: Amounts, decimals: int) -> tuple[str, ...]:
    return tuple(
        f"{each:,.{decimals}f}" for each in (amounts.gpu_hours, amounts.dollars, amounts.hours)
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell: names and states to the left, numbers to the right."""
    columns = max(len(row) for row in rows)
    width = [
        max((len(row[at]) for row in rows if at < len(row)), default=0) for at in range(columns)
    ]
    return [
        " ".join(
            f"{cell:<{width[at]}}" if at < 2 else f"{cell:>{width[at]}}"
            for at, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]


def _indented(lines: Sequence[str], depth: int) -> list[str]:
    wrapped: list[str] = []
    for line in lines:
        wrapped += textwrap.wrap(
            line,
            TEXT_WIDTH,
            initial_indent=" " * depth,
            subsequent_indent=" " * (depth + 4),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return wrapped


# ---- what is to be said of the prices ------------------------------------------------------------


def _notes(estimates: Sequence[StageEstimate], *, kind: str, explain: bool) -> list[str]:
    measured = [each.stage for each in estimates if each.basis == "measured"]
    notes = [
        f"Priced for {kind}. Speeds are estimates"
        + (f", measured for {', '.join(measured)}" if measured else "")
        + ". Hours: one stage after another"
        + (", so the columns add up." if explain else "; --explain shows the arithmetic.")
    ]
    reasons: dict[str, list[str]] = {}
    for estimate in estimates:
        if estimate.unknown:
            reasons.setdefault(f"No price, {estimate.unknown}", []).append(estimate.stage)
        elif estimate.note:
            reasons.setdefault(f"Not in the price, {estimate.note}", []).append(estimate.stage)
        if estimate.memory and estimate.memory.note.startswith("does not fit"):
            reasons.setdefault(f"D{estimate.memory.note[1:]}", []).append(estimate.stage)
    notes += [f"{reason}: {', '.join(stages)}" for reason, stages in reasons.items()]
    return [line for note in notes for line in _indented([note], 0)]


def _commands(
    pipeline: Pipeline, statuses: Mapping[str, StageStatus], ready: Sequence[str]
) -> list[str]:
    """The command of each stage; what can start now comes last, where a terminal ends."""
    states = {name: statuses[name].state for name in pipeline.stages}
    groups = {
        "Commands of stages that are done:": [n for n, state in states.items() if state == "done"],
        "Made with other settings than the recipe's; the command shows which, and the ways out:": [
            n for n, state in states.items() if state == "stale"
        ],
        "Later, in this order:": [
            n for n, state in states.items() if state in ("missing", "partial") and n not in ready
        ],
        f"Can start now ({_READY}), or all that is missing by `run` instead of `plan`:": ready,
    }
    lines: list[str] = []
    for heading, names in groups.items():
        if names:
            lines += [heading, *(f"  {pipeline.shell_command(name)}" for name in names)]
    return lines


MOST_DECIMALS = 6


@dataclass(frozen=True)
class Amounts:
    """GPU hours, dollars and wall hours of one stage, or of a whole run one stage after another."""

    gpu_hours: float = 0.0
    dollars: float = 0.0
    hours: float = 0.0


def decimals_of(estimates: Sequence[StageEstimate]) -> int:
    """Two; more where the costliest stage would else lose its first three digits."""
    largest = max([*(each.gpu_hours or 0.0 for each in estimates), 0.0])
    costliest = max([largest, *(each.dollars or 0.0 for each in estimates)])
    if costliest <= 0:
        return 2
    return min(MOST_DECIMALS, max(2, 2 - math.floor(math.log10(costliest))))


def amounts_of(estimate: StageEstimate, decimals: int) -> Amounts:
    """Of a stage that has a price: the sums of its rounded terms."""
    gpu_hours = sum(round(term.gpu_hours or 0.0, decimals) for term in estimate.terms)
    vendors = sum(round(term.dollars or 0.0, decimals) for term in estimate.terms)
    dollars = round(gpu_hours * estimate.gpu_price, decimals) + vendors
    return Amounts(gpu_hours, dollars, round(gpu_hours / max(estimate.gpus, 1), decimals))


def left_of(estimate: StageEstimate, decimals: int) -> Amounts:
    """What is left of a stage."""
    whole = amounts_of(estimate, decimals)
    return Amounts(
        gpu_hours=round(whole.gpu_hours * estimate.left, decimals),
        dollars=round(whole.dollars * estimate.left, decimals),
        hours=round(whole.hours * estimate.left, decimals),
    )


def total(amounts: Sequence[Amounts]) -> Amounts:
    """Their sums."""
    return Amounts(
        sum(each.gpu_hours for each in amounts),
        sum(each.dollars for each in amounts),
        sum(each.hours for each in amounts),
    )


def explanation(estimate: StageEstimate, *, kind: str, decimals: int) -> list[str]:
    """One line per term, then the sum, the memory, and what is left."""
    if estimate.unknown:
        return [f"no price: {estimate.unknown}"]
    lines = []
    for term in estimate.terms:
        if term.gpu_hours is not None:
            lines.append(f"{term.text} = {term.gpu_hours:,.{decimals}f} GPU hours")
        elif term.dollars is not None:
            lines.append(f"{term.text} = ${term.dollars:,.{decimals}f}")
        else:
            lines.append(term.text)
    lines += _sum(estimate, kind=kind, decimals=decimals)
    if estimate.memory:
        lines.append(estimate.memory.text())
    if estimate.note:
        lines.append(f"leaves out: {estimate.note}")
    if 0 < estimate.left < 1:
        rest = left_of(estimate, decimals)
        lines.append(
            f"{estimate.left:.1%} of it is left: {rest.gpu_hours:,.{decimals}f} GPU hours, "
            f"${rest.dollars:,.{decimals}f}"
        )
    return lines


def _sum(estimate: StageEstimate, *, kind: str, decimals: int) -> list[str]:
    amounts = amounts_of(estimate, decimals)
    computed = [term.gpu_hours for term in estimate.terms if term.gpu_hours is not None]
    paid = [term.dollars for term in estimate.terms if term.dollars is not None]
    lines = []
    if computed:
        added = " + ".join(f"{each:,.{decimals}f}" for each in computed)
        added += f" = {amounts.gpu_hours:,.{decimals}f}" if len(computed) > 1 else ""
        gpus = round(amounts.gpu_hours * estimate.gpu_price, decimals)
        lines.append(
            f"{added} GPU hours x ${estimate.gpu_price:g} = ${gpus:,.{decimals}f}; on "
            f"{estimate.gpus} {kind}: {amounts.hours:,.{decimals}f} hours"
        )
    if paid and (computed or len(paid) > 1):
        first = [round(amounts.gpu_hours * estimate.gpu_price, decimals)] if computed else []
        added = " + ".join(f"${each:,.{decimals}f}" for each in [*first, *paid])
        lines.append(f"{added} = ${amounts.dollars:,.{decimals}f}")
    return lines


def plan_json(
    pipeline: Pipeline,
    statuses: Sequence[StageStatus],
    estimates: Sequence[StageEstimate],
    *,
    kind: str | None,
) -> dict[str, Any]:
    """Stages in the order in which they run; without a throughput table there are no prices."""
    prices = {estimate.stage: _price(estimate) for estimate in estimates}
    stages = [
        {
            "stage": status.name,
            "state": status.state,
            "done": status.done,
            "total": status.total,
            "unit": status.unit,
            "command": pipeline.shell_command(status.name),
            "inputs": list(pipeline[status.name].inputs),
            "price": prices.get(status.name),
        }
        for status in statuses
    ]
    return {"run": pipeline.recipe.run, "gpu": kind, "stages": stages, "total": _total(estimates)}


def as_json(plan: dict[str, Any]) -> str:
    """JSON text with a line end."""
    return json.dumps(plan, indent=1, ensure_ascii=False) + "\n"


def _total(estimates: Sequence[StageEstimate]) -> dict[str, Any]:
    return {
        "gpu_hours": sum(each.gpu_hours or 0.0 for each in estimates),
        "dollars": sum(each.dollars or 0.0 for each in estimates),
        "gpu_hours_left": sum((each.gpu_hours or 0.0) * each.left for each in estimates),
        "dollars_left": sum((each.dollars or 0.0) * each.left for each in estimates),
        "without_price": [each.stage for each in estimates if each.unknown],
    }


def _price(estimate: StageEstimate) -> dict[str, Any]:
    price = {key: value for key, value in asdict(estimate).items() if key != "stage"}
    amounts = {
        "gpu_hours": estimate.gpu_hours,
        "dollars": estimate.dollars,
        "hours": estimate.hours,
    }
    return {**price, **amounts}

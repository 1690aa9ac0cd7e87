"""A plan as text and as JSON: state, price and command of every stage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from wrpo.pricing.estimate import Estimate
from wrpo.pricing.work import short
from wrpo.stages import Pipeline

_INDENT = " " * 9


def plan_lines(pipeline: Pipeline) -> list[str]:
    """Every stage in order: state, folder, command."""
    recipe = pipeline.recipe
    width = max(20, *(len(name) for name in pipeline.stages))
    head = f"run {recipe.run}: {len(pipeline.stages)} stages in {recipe.runs / recipe.run}"
    return [head, ""] + [
        f"{pipeline.state(name):8} {name:{width}} {pipeline.shell_command(name)}"
        for name in pipeline.stages
    ]


def price_lines(estimates: Sequence[Estimate], *, kind: str, explain: bool) -> list[str]:
    """A table of prices with its sum; `explain` adds the arithmetic under each stage."""
    width = max(20, *(len(estimate.stage) for estimate in estimates))
    head = (
        f"{'stage':{width}} {'tokens':>8} {'GPUs':>5} {'GPU hours':>10} {'dollars':>10} "
        f"{'hours':>8} {'GiB/GPU':>8} {'left':>5}  speed from"
    )
    lines = ["", f"priced for {kind}; estimates, but where measured:", "", head]
    for estimate in estimates:
        lines.append(_row(estimate, width))
        if explain:
            lines += [f"{_INDENT}{line}" for line in estimate.arithmetic]
    return [*lines, "", *_sums(estimates)]


def plan_json(
    pipeline: Pipeline, estimates: Sequence[Estimate], *, kind: str | None
) -> dict[str, Any]:
    """The same for scripts; without a throughput table there are no prices."""
    prices = {estimate.stage: _price(estimate) for estimate in estimates}
    stages = [
        {
            "stage": name,
            "state": pipeline.state(name),
            "command": pipeline.shell_command(name),
            "inputs": list(pipeline[name].inputs),
            "price": prices.get(name),
        }
        for name in pipeline.stages
    ]
    return {"run": pipeline.recipe.run, "gpu": kind, "stages": stages, "total": _total(estimates)}


def as_json(plan: dict[str, Any]) -> str:
    """JSON text with a line end."""
    return json.dumps(plan, indent=1, ensure_ascii=False) + "\n"


def _row(estimate: Estimate, width: int) -> str:
    name, tokens = f"{estimate.stage:{width}}", _cell(estimate.tokens)
    if estimate.unknown:
        return f"{name} {tokens:>8} {estimate.unknown}"
    if not estimate.gpu_hours and not estimate.dollars:
        return f"{name} {tokens:>8} {'-':>5} {'no GPU':>10}"
    memory = f"{estimate.memory.total:,.0f}" if estimate.memory else "-"
    return (
        f"{name} {tokens:>8} {estimate.gpus or '-':>5} {_number(estimate.gpu_hours):>10} "
        f"{_number(estimate.dollars):>10} {_number(estimate.hours):>8} {memory:>8} "
        f"{estimate.left:>5.0%}  {estimate.basis}"
    )


def _sums(estimates: Sequence[Estimate]) -> list[str]:
    total = _total(estimates)
    lines = [
        f"whole run: {_number(total['gpu_hours'])} GPU hours, ${_number(total['dollars'])}; left: "
        f"{_number(total['gpu_hours_left'])} GPU hours, ${_number(total['dollars_left'])}"
    ]
    if total["without_price"]:
        lines.append(f"without a price: {', '.join(total['without_price'])}")
    tight = [e for e in estimates if e.memory and e.memory.note.startswith("does not fit")]
    return lines + [f"{estimate.stage} {estimate.memory.note}" for estimate in tight]  # type: ignore[union-attr]


def _total(estimates: Sequence[Estimate]) -> dict[str, Any]:
    priced = [e for e in estimates if not e.unknown]
    return {
        "gpu_hours": sum(e.gpu_hours or 0.0 for e in priced),
        "dollars": sum(e.dollars or 0.0 for e in priced),
        "gpu_hours_left": sum((e.gpu_hours or 0.0) * e.left for e in priced),
        "dollars_left": sum((e.dollars or 0.0) * e.left for e in priced),
        "without_price": [e.stage for e in estimates if e.unknown],
    }


def _price(estimate: Estimate) -> dict[str, Any]:
    return {key: value for key, value in asdict(estimate).items() if key != "stage"}


def _cell(value: float | None) -> str:
    return "-" if value is None else short(value)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"

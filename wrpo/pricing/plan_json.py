"""A plan for scripts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from wrpo.pricing.price import Estimate
from wrpo.stages import Pipeline
from wrpo.status import StageStatus


def plan_json(
    pipeline: Pipeline,
    statuses: Sequence[StageStatus],
    estimates: Sequence[Estimate],
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


def _total(estimates: Sequence[Estimate]) -> dict[str, Any]:
    return {
        "gpu_hours": sum(each.gpu_hours or 0.0 for each in estimates),
        "dollars": sum(each.dollars or 0.0 for each in estimates),
        "gpu_hours_left": sum((each.gpu_hours or 0.0) * each.left for each in estimates),
        "dollars_left": sum((each.dollars or 0.0) * each.left for each in estimates),
        "without_price": [each.stage for each in estimates if each.unknown],
    }


def _price(estimate: Estimate) -> dict[str, Any]:
    price = {key: value for key, value in asdict(estimate).items() if key != "stage"}
    amounts = {
        "gpu_hours": estimate.gpu_hours,
        "dollars": estimate.dollars,
        "hours": estimate.hours,
    }
    return {**price, **amounts}

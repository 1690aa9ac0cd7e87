"""The amounts of a plan as they are shown: rounded first and added up then, so that sums agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wrpo.pricing.price import Estimate

MOST_DECIMALS = 6


@dataclass(frozen=True)
class Amounts:
    """GPU hours, dollars and wall hours of one stage, or of a whole run one stage after another."""

    gpu_hours: float = 0.0
    dollars: float = 0.0
    hours: float = 0.0


def decimals_of(estimates: Sequence[Estimate]) -> int:
    """Two; more where the dearest stage would else lose its first three digits."""
    largest = max([*(each.gpu_hours or 0.0 for each in estimates), 0.0])
    dearest = max([largest, *(each.dollars or 0.0 for each in estimates)])
    if dearest <= 0:
        return 2
    return min(MOST_DECIMALS, max(2, 2 - math.floor(math.log10(dearest))))


def amounts_of(estimate: Estimate, decimals: int) -> Amounts:
    """Of a stage that has a price: the sums of its rounded terms."""
    gpu_hours = sum(round(term.gpu_hours or 0.0, decimals) for term in estimate.terms)
    vendors = sum(round(term.dollars or 0.0, decimals) for term in estimate.terms)
    dollars = round(gpu_hours * estimate.gpu_price, decimals) + vendors
    return Amounts(gpu_hours, dollars, round(gpu_hours / max(estimate.gpus, 1), decimals))


def left_of(estimate: Estimate, decimals: int) -> Amounts:
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

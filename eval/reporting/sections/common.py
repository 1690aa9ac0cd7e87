"""What several sections write alike."""

from __future__ import annotations

import math

from eval.reporting.board import ORACLE
from eval.reporting.compare import FUSED, display_name
from eval.reporting.page import MeasuredText, measured, number
from wrpo.recipe import Recipe
from wrpo.statistics.estimates import Estimate


def model_label(recipe: Recipe, model: str) -> str:
    """A model's name as the report writes it; the oracle has its own."""
    return model if model == ORACLE else display_name(recipe, model)


def interval(
    estimate: Estimate,
    *,
    digits: int = 3,
    signed: bool = False,
    share: float | None = None,
    tail: str = "",
) -> MeasuredText:
    """`value [low, high]` and the tail, the value alone where there is no interval."""
    value = number(estimate.value, digits=digits, signed=signed)
    if math.isnan(estimate.low) or estimate.low == estimate.high:  # all prompts alike
        return measured(value, share=share)
    low = number(estimate.low, digits=digits, signed=signed)
    high = number(estimate.high, digits=digits, signed=signed)
    return measured(f"{value} [{low}, {high}]{tail}", share=share)


def p_value(p: float) -> str:
    """A p-value, never shown as 0."""
    return "< 0.001" if p < 0.001 else number(p)


def fused_row(models: list[str]) -> frozenset[int]:
    """The place of the fused model among the models, as the rows to stress."""
    return frozenset({models.index(FUSED)}) if FUSED in models else frozenset()


def model_hue(recipe: Recipe, model: str) -> int:
    """The colour of a model: the fused one, the other trained ones, sources."""
    if model == FUSED:
        return 0
    return 7 if model in (ORACLE, *recipe.sources, *recipe.fusions) else 1

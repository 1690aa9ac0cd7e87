"""The comparisons that a fusion run is made for: its model against everything it should beat."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations

from eval.reporting.board import Board
from wrpo.recipe import TARGET, Recipe, preference
from wrpo.statistics.estimates import SIGNIFICANCE, Estimate, holm, wins


@dataclass(frozen=True)
class Comparison:
    """The fused model minus another on one metric.

    Attributes:
        fused, label: the fused and the other model in words.
        direction: 1 where more is better, else -1.
        holm_p: p-value adjusted for all comparisons on this metric.
    """

    task: str
    metric: str
    fused: str
    other: str
    label: str
    estimate: Estimate
    direction: int = 1
    holm_p: float = float("nan")

    @property
    def outcome(self) -> int:
        """1: the fused model is better, -1: worse, 0: no difference shown.

        A difference is shown when the interval leaves out 0 and Holm's p is below 0.05.
        """
        shown = math.isnan(self.holm_p) or self.holm_p < SIGNIFICANCE
        return self.direction * self.estimate.sign if shown else 0

    @property
    def uncorrected(self) -> bool:
        """Whether interval and p show a difference before the correction for several comparisons,
        and not after it."""
        alone = math.isnan(self.estimate.p) or self.estimate.p < SIGNIFICANCE
        return self.outcome == 0 and self.estimate.sign != 0 and alone


def opponents(recipe: Recipe, board: Board, metric: str) -> dict[str, str]:
    """Models to compare with and their names in words; the best single source comes first."""
    sources = [name for name in recipe.sources if name in board.models]
    named = {}
    if sources:
        best = board.best(sources, metric)
        named[best] = f"the best single source ({best})"
    arms = sorted(recipe.arms, key=lambda arm: preference(recipe, arm).objective)
    for name in [
        *recipe.fused_models[1:],
        *arms,
        *recipe.merges,
        *recipe.fusions,
        "sft",
        "prune",
        TARGET,
    ]:
        if name in board.models:
            named[name] = other_in_words(recipe, name)
    return named


def compare(recipe: Recipe, board: Board, metric: str) -> list[Comparison]:
    """All comparisons on one metric; empty when the fused model is not evaluated."""
    if FUSED not in board.models:
        return []
    named = opponents(recipe, board, metric)
    if not named:
        return []
    fused = fused_in_words(recipe)
    estimates = board.against(FUSED, list(named), metric)
    found = [
        Comparison(board.task, metric, fused, name, label, estimate, board.direction(metric))
        for (name, label), estimate in zip(named.items(), estimates, strict=True)
    ]
    return with_holm(found)


def win_matrix(board: Board, metric: str) -> dict[str, dict[str, Estimate]]:
    """Row model, column model: share of prompts on which the row is better, ties counting half.

    The p-values are Holm's over all pairs of models.
    """
    pairs = list(combinations(board.models, 2))
    direction = board.direction(metric)
    columns = {name: direction * board.column(name, metric) for name in board.models}
    found = [wins(columns[first], columns[second]) for first, second in pairs]
    adjusted = holm([estimate.p for estimate in found])
    matrix: dict[str, dict[str, Estimate]] = {name: {} for name in board.models}
    for (first, second), e, p in zip(pairs, found, adjusted, strict=True):
        matrix[first][second] = replace(e, p=p)
        matrix[second][first] = replace(e, value=1 - e.value, low=1 - e.high, high=1 - e.low, p=p)
    return matrix


def with_holm(comparisons: list[Comparison]) -> list[Comparison]:
    """The same comparisons with p-values adjusted for their number."""
    adjusted = holm([comparison.estimate.p for comparison in comparisons])
    return [replace(c, holm_p=p) for c, p in zip(comparisons, adjusted, strict=True)]


FUSED = "wrpo"
"""The model that the run is made for, whatever the recipe's objective; that of the first round."""


def display_name(recipe: Recipe, name: str) -> str:
    """A model's name in a table."""
    if name in [*recipe.fused_models[1:], *recipe.arms]:
        return f"{name} ({preference(recipe, name).label})"
    if name in recipe.merges:
        return f"{name} ({recipe.merges[name].label})"
    if name in recipe.sources:
        return f"source {name}"
    if name in recipe.fusions:
        return f"fusion {name}"
    if name == FUSED:
        return fused_in_words(recipe).removeprefix("the ")
    return {TARGET: "target before", "sft": "SFT", "prune": "pruned target"}.get(name, name)


def fused_in_words(recipe: Recipe) -> str:
    """The fused model in a sentence; WRPO only where the recipe trains with it."""
    return recipe.wrpo.fused_phrase


def other_in_words(recipe: Recipe, name: str) -> str:
    """Any other trained model, or the target, in a sentence."""
    if name in recipe.fused_models[1:]:
        return f"the model of round {recipe.fused_models.index(name) + 1} ({name})"
    if name in recipe.merges:
        return f"the merge {name}"
    if name in recipe.fusions:
        return f"the fusion {name} of sources, without training"
    if name not in recipe.arms:
        given = {"sft": "SFT alone", "prune": "the pruned target", TARGET: "the target before"}
        return given[name]
    return f"{preference(recipe, name).phrase} ({name})"

"""How a report writes the names of a run's models."""

from __future__ import annotations

from wrpo.recipe import TARGET, Recipe, preference

FUSED = "wrpo"
"""The model that the run is made for, whatever the recipe's objective."""

KINDS = {"dpo": "DPO", "cgpo": "CGPO", "sft": "more SFT", "wrpo": "the WRPO variant"}
"""Objectives of other arms in words, in the order in which the report compares them."""


def display_name(recipe: Recipe, name: str) -> str:
    """A model's name in a table."""
    if name in recipe.arms:
        return f"{name} ({objective(recipe, name).upper()})"
    if name in recipe.sources:
        return f"source {name}"
    if name == FUSED:
        return fused_in_words(recipe).removeprefix("the ")
    return {TARGET: "target before", "sft": "SFT"}.get(name, name)


def fused_in_words(recipe: Recipe) -> str:
    """The fused model in a sentence; WRPO only where the recipe trains with it."""
    kind = objective(recipe, FUSED)
    return "WRPO" if kind == "wrpo" else f"the fused model ({kind.upper()})"


def other_in_words(recipe: Recipe, name: str) -> str:
    """Any other trained model, or the target, in a sentence."""
    if name not in recipe.arms:
        return {"sft": "SFT alone", TARGET: "the target before"}[name]
    return f"{KINDS[objective(recipe, name)]} ({name})"


def objective(recipe: Recipe, arm: str) -> str:
    """What an arm trains on."""
    return preference(recipe, arm).objective

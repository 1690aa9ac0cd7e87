"""Rounds of fusion: the stages of later rounds are those of the first under other names.

A round samples and scores the target anew, builds its rows from these responses and those of the
sources, and trains `wrpo` again from where the round starts, which is also its reference: the model
that the round before it made stands where the SFT model stands in the first. So the commands of a
round are those of the first with `--round N`, and see the names of the first
(`wrpo.pipeline.pipeline.Pipeline` has the names that they stand for).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from wrpo.errors import RecipeError
from wrpo.pipeline.data_stages import built_from
from wrpo.pipeline.stage import Stage
from wrpo.pipeline.training_stages import logit_tables, scored_rows, train_stage
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.revise import REVISED

FIRST_MODEL = "wrpo"


def names_in_round(recipe: Recipe, number: int) -> dict[str, str]:
    """What the names of the first round stand for in another one; nothing in the first."""
    if number == 1:
        return {}
    start = recipe.fused_models[number - 2]
    return {"sft": start, **{name: f"round-{number}/{name}" for name in _made_anew(recipe)}}


def round_stages(recipe: Recipe, stages: Mapping[str, Stage]) -> list[Stage]:
    """The stages of all rounds after the first, in the order in which they run.

    Args:
        stages: of the first round, by name.

    Raises:
        RecipeError: no row that `wrpo` trains on has a response of the target.
    """
    made: list[Stage] = []
    for number, model in enumerate(recipe.fused_models[1:], start=2):
        names = names_in_round(recipe, number)
        first = [stage for name, stage in stages.items() if name in names and name != "sft"]
        for stage in [*first, train_stage(recipe, model)]:
            inputs = tuple(names.get(name, name) for name in stage.inputs)
            made.append(replace(stage, round=number, inputs=inputs))
    return made


def _made_anew(recipe: Recipe) -> list[str]:
    """The stages of the first round that depend on the model a round starts from."""
    table = recipe.wrpo.data
    if table in recipe.build.imported.tables() or TARGET not in built_from(recipe, table):
        raise RecipeError(
            f"rounds is {recipe.rounds}, but wrpo trains on {table}, which holds no response that "
            "a later round could sample anew; set rounds to 1, or wrpo.data to triples"
        )
    scored = [f"logprobs/{model}/{rows}" for model, rows in scored_rows(recipe, FIRST_MODEL)]
    scored += [place.stage for place in logit_tables(recipe, FIRST_MODEL)]
    revised = [f"{kind}/{REVISED}{TARGET}" for kind in ("sample", "score")]
    revised = revised if TARGET in recipe.revise else []
    return [f"sample/{TARGET}", f"score/{TARGET}", *revised, f"build/{table}", *scored]

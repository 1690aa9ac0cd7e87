"""The recipe: schema, loader, and the check of TRL's keys."""

from wrpo.recipe.load import dump_recipe, load_recipe, preference, save_recipe
from wrpo.recipe.sampling import Model
from wrpo.recipe.schema import TARGET, Recipe
from wrpo.recipe.training import OBJECTIVES, Preference

__all__ = [
    "TARGET",
    "OBJECTIVES",
    "Model",
    "Preference",
    "Recipe",
    "dump_recipe",
    "load_recipe",
    "preference",
    "save_recipe",
]

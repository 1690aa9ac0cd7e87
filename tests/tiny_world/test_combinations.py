"""The runs that are compared cost what the table says, and its differences are paired by seed."""

from pathlib import Path

from tiny_world.combinations import LEARNING_PROMPTS, ROWS, SHOWN, table
from tiny_world.demo import demo_overrides
from tiny_world.sweep import Scores
from wrpo.recipe import load_recipe


def test_learning_and_routing_take_half_the_responses_of_the_demo() -> None:
    recipe = load_recipe(Path("recipes/demo.yaml"), demo_overrides(1, Path("world")))
    prompts = recipe.prompts.datasets["fusion"].expected_prompts
    assert prompts is not None
    everyone = len(recipe.sources) * prompts
    assert 2 * (len(recipe.sources) * LEARNING_PROMPTS + prompts) == everyone


def scores(accuracy: float) -> Scores:
    return {model: {"acc": accuracy, "reward": 4 * accuracy} for model in SHOWN}


def test_differences_are_those_of_the_same_seed() -> None:
    found = {"demo": [scores(0.5), scores(0.9)], "router": [scores(0.6), scores(0.8)]}
    lines = table(found).splitlines()
    assert lines[2].startswith(f"| {ROWS['demo']} | 0.700, 2.800 |")
    assert lines[2].endswith("|  |")
    # t of one degree of freedom at 97.5 %: 12.706; the standard error is 0.1.
    assert lines[3].endswith("| +0.000 (-1.271 to +1.271), +0.000 (-5.082 to +5.082) |")

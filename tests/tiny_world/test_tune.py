"""What is tried: the same learning rates for every arm, and merges of what was trained alike."""

from pathlib import Path

import pytest

from tiny_world.tune import Rates, table, variants
from wrpo.recipe import Recipe, load_recipe, preference
from wrpo.recipe.yaml_source import dump_yaml

RECIPE = Path("recipes/demo-arms.yaml")
FACTORS = (0.3, 1.0, 3.0)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Rates]:
    added, tried = variants(load_recipe(RECIPE), FACTORS)
    file = tmp_path_factory.mktemp("tuning") / "recipe.yaml"
    file.write_text(dump_yaml({"extends": str(RECIPE.resolve()), **added}))
    return load_recipe(file), tried


def test_every_arm_is_tried_with_every_factor_and_differs_in_nothing_else(
    tuned: tuple[Recipe, Rates],
) -> None:
    recipe, tried = tuned
    arms = ["wrpo", *load_recipe(RECIPE).arms]
    assert set(tried) == {*arms, *load_recipe(RECIPE).merges}
    for arm in arms:
        assert sorted(tried[arm].values()) == list(FACTORS)
        base = preference(recipe, arm)
        for model, factor in tried[arm].items():
            settings = preference(recipe, model)
            rate = base.train["learning_rate"]
            assert settings.train["learning_rate"] == pytest.approx(factor * rate, rel=0.05)
            same = {**settings.train, "learning_rate": rate}
            assert settings.model_copy(update={"train": same}) == base


def test_a_merge_is_tried_of_models_with_the_same_factor(tuned: tuple[Recipe, Rates]) -> None:
    recipe, tried = tuned
    for name in load_recipe(RECIPE).merges:
        for merge, factor in tried[name].items():
            models = recipe.merges[merge].models
            arms = load_recipe(RECIPE).merges[name].models
            assert [tried[arm][model] for arm, model in zip(arms, models, strict=True)] == (
                [factor] * len(arms)
            )


def test_the_best_reward_of_an_arm_is_marked() -> None:
    tried = {"dpo": {"dpo": 1.0, "dpo-low": 0.3}, "sft": {"sft": 1.0}}
    scores = {
        "dpo": {"acc": 0.9, "reward": 3.0},
        "dpo-low": {"acc": 0.8, "reward": 3.5},
        "sft": {"acc": 0.5, "reward": 2.0},
    }
    assert table(tried, scores).splitlines()[2:] == [
        "| dpo | **0.3** | 0.800 | 3.500 |",
        "| dpo | 1 | 0.900 | 3.000 |",
        "| sft | **1** | 0.500 | 2.000 |",
    ]


def test_single_arms_can_be_tried_and_merges_only_with_all_their_models() -> None:
    recipe = load_recipe(RECIPE)
    added, tried = variants(recipe, FACTORS, only=["dpo", *recipe.merges["wrpo-sce"].models])
    assert set(tried) == {"dpo", *recipe.merges["wrpo-sce"].models, "wrpo-sce"}
    assert len(added["arms"]) == 8 and len(added["merges"]) == 2

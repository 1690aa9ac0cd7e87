"""Recipes and sources that come with the toolkit are found by name, wherever one is."""

from __future__ import annotations

from pathlib import Path

import pytest

from wrpo.errors import RecipeError
from wrpo.recipe import load_recipe
from wrpo.recipe.shipped import find_file, find_recipe, shipped_folder, shipped_recipes


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_loads_by_name(name: str) -> None:
    recipe = load_recipe(find_recipe(Path(name)))
    assert recipe.run == Path(name).name


@pytest.mark.parametrize("given", ["demo", "demo.yaml", "recipes/demo.yaml", "recipes/demo"])
def test_a_recipe_is_found_by_name_and_by_its_path_in_the_repository(given: str) -> None:
    assert find_recipe(Path(given)) == shipped_folder() / "demo.yaml"


def test_a_file_of_that_name_here_comes_first(elsewhere: Path) -> None:
    Path("demo.yaml").write_text("run: mine\n")
    assert find_recipe(Path("demo.yaml")) == Path("demo.yaml")
    Path("recipes").mkdir()
    Path("recipes/demo.yaml").write_text("run: changed\n")
    assert find_recipe(Path("demo")) == Path("recipes/demo.yaml")


def test_an_unknown_name_is_told_which_there_are() -> None:
    with pytest.raises(RecipeError, match=r"no such recipe.*names: demo, .*fusechat3/gemma2-9b"):
        load_recipe(find_recipe(Path("dmo")))


def test_sources_and_accelerate_configs_are_there_too() -> None:
    Path("own.yaml").write_text((shipped_folder() / "llama3-8b-wrpo.yaml").read_text())
    recipe = load_recipe(Path("own.yaml"))
    assert recipe.sources["gemma2-27b"].model == "google/gemma-2-27b-it"
    config = recipe.wrpo.engine.accelerate_file
    assert config == find_file(Path("recipes/accelerate/zero3.yaml")) and config.is_file()

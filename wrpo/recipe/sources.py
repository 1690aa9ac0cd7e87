"""Sources of a recipe by name: `recipes/sources/NAME.yaml` says which model a name is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wrpo.errors import RecipeError
from wrpo.local_paths import is_file
from wrpo.recipe.problems import did_you_mean
from wrpo.recipe.yaml_source import Located, merge, read_yaml


def name_sources(located: Located) -> None:
    """`sources: [a, b]` becomes `sources: {a: , b: }`, which merges and takes overrides."""
    names = located.value.get("sources")
    if not isinstance(names, list):
        return
    named: dict[str, Any] = {}
    for index, name in enumerate(names):
        place = located.place(("sources", str(index)))
        if not isinstance(name, str):
            raise RecipeError(f"{place}: sources: a list holds names; write a mapping for models")
        if name in named:
            raise RecipeError(f'{place}: sources: "{name}" is listed twice')
        named[name] = None
        located.places[("sources", name)] = place
    located.value["sources"] = named


def expand_sources(located: Located, recipe_path: Path) -> None:
    """A source that is nothing, a name, or has no model is read from recipes/sources/NAME.yaml."""
    sources = located.value.get("sources")
    if not isinstance(sources, dict):
        return
    expanded: dict[str, Any] = {}
    for name, given in sources.items():
        expanded[name] = given
        own_file = given if isinstance(given, str) else None
        if given is None or (isinstance(given, dict) and "model" not in given):
            own_file = name
        if own_file is None:
            continue
        place = located.place(("sources", name))
        entry = read_yaml(_source_file(own_file, recipe_path, place))
        over = given if isinstance(given, dict) else {}
        expanded[name] = merge(entry.value, over)
        for path, where in entry.places.items():
            located.places.setdefault(("sources", name, *path), where)
    located.value["sources"] = expanded


def _source_file(name: str, recipe_path: Path, place: str) -> Path:
    folders = [folder / "sources" for folder in recipe_path.resolve().parents]
    folders.append(Path("recipes") / "sources")
    for folder in folders:
        if is_file(folder / f"{name}.yaml"):
            return folder / f"{name}.yaml"
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise RecipeError(
        f'{place}: unknown source "{name}"{did_you_mean(name, known)}; '
        f"give it a `model:` here or write recipes/sources/{name}.yaml"
    )

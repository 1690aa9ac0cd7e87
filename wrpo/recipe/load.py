"""Loads a recipe: file, parent, command line, check, save.

Precedence, lowest first: schema default, parent recipe (`extends:`), recipe, `key=value`.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wrpo.atomic import replacing
from wrpo.errors import RecipeError
from wrpo.local_paths import is_file
from wrpo.recipe.problems import MAX_PROBLEMS, did_you_mean, explain, explain_arm
from wrpo.recipe.schema import Recipe
from wrpo.recipe.sources import expand_sources, name_sources
from wrpo.recipe.training_sections import Preference
from wrpo.recipe.trl_keys import config_fields, key_problem, type_problem
from wrpo.recipe.yaml_source import Located, dump_yaml, merge, parse_yaml, read_yaml

COMMAND_LINE = "command line"


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Reads, merges and checks one recipe.

    Args:
        path: the YAML file.
        overrides: `key.path=value` items; each value is YAML.

    Raises:
        RecipeError: one message that lists every problem with its file and line.
    """
    located = _with_parent(path)
    name_sources(located)
    for item in overrides or []:
        _override(located, item)
    name_sources(located)
    expand_sources(located, path)
    return check(located)


def check(located: Located) -> Recipe:
    """Validates a located tree; all problems in one RecipeError."""
    try:
        recipe = Recipe.model_validate(located.value)
    except ValidationError as error:
        raise RecipeError(explain(error, located)) from None
    problems = _arm_problems(recipe, located) or _train_problems(recipe, located)
    if problems:
        raise RecipeError("\n".join(problems[:MAX_PROBLEMS]))
    return recipe


def preference(recipe: Recipe, arm: str) -> Preference:
    """The settings of one trained model: "wrpo", or a name under `arms`.

    An arm is `wrpo` with its own differences; of the TRL keys under `wrpo.train` it inherits those
    that the config of its objective knows.
    """
    if arm == "wrpo":
        return recipe.wrpo
    if arm not in recipe.arms:
        hint = did_you_mean(arm, ["wrpo", *recipe.arms])
        raise RecipeError(f'no arm "{arm}" in recipe {recipe.run}{hint}')
    inherited = recipe.wrpo.model_dump(mode="json")
    known = config_fields(_config_name(recipe.arms[arm].get("objective", recipe.wrpo.objective)))
    inherited["train"] = {
        key: inherited["train"][key] for key in inherited["train"] if key in known
    }
    return Preference.model_validate(merge(inherited, recipe.arms[arm]))


def _config_name(objective: Any) -> str:
    return "SFTConfig" if objective == "sft" else "WRPOConfig"


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML; it loads back to an equal recipe."""
    return dump_yaml(recipe.model_dump(mode="json"))


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Writes the resolved recipe and reads it back at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(dump_recipe(recipe), encoding="utf-8")
        if check(read_yaml(partial)) != recipe:
            raise AssertionError(f"{partial}: the resolved recipe does not load back to itself")


def _with_parent(path: Path, children: tuple[Path, ...] = ()) -> Located:
    located = read_yaml(path)
    parent_name = located.value.pop("extends", None)
    if parent_name is None:
        return located
    place = located.place(("extends",))
    if not isinstance(parent_name, str):
        raise RecipeError(f"{place}: extends: names one parent file, not {parent_name!r}")
    parent_path = path.parent / parent_name
    if not is_file(parent_path):
        raise RecipeError(f"{place}: extends: no file {str(parent_path)[:200]!r}")
    if parent_path.resolve() in [child.resolve() for child in (*children, path)]:
        raise RecipeError(f"{place}: extends: {parent_name} extends itself in a circle")
    parent = _with_parent(parent_path, (*children, path))
    name_sources(parent)
    return Located(merge(parent.value, located.value), {**parent.places, **located.places})


def _override(located: Located, item: str) -> None:
    key, equals, text = item.partition("=")
    if item.startswith("-") or not equals or not all(key.split(".")):
        raise RecipeError(
            f'{COMMAND_LINE}: "{item}" is not key=value; flags choose what to run, '
            "key=value changes the recipe, e.g. wrpo.alpha.end=0.2"
        )
    value = parse_yaml(text, name=f'{COMMAND_LINE} "{item}"').value if text else None
    node = located.value
    steps = key.split(".")
    for step in steps[:-1]:
        if not isinstance(node.get(step), dict):
            node[step] = {}
        node = node[step]
    node[steps[-1]] = value
    path = tuple(steps)
    for known in [place for place in located.places if place[: len(path)] == path]:
        del located.places[known]
    for end in range(1, len(path) + 1):
        located.places.setdefault(path[:end], f'{COMMAND_LINE} "{item}"')


def _arm_problems(recipe: Recipe, located: Located) -> list[str]:
    problems: list[str] = []
    for name in recipe.arms:
        try:
            preference(recipe, name)
        except ValidationError as error:
            moved = Located(None, _arm_places(located, name))
            problems += explain_arm(error, moved, name)
    return problems


def _arm_places(located: Located, name: str) -> dict[tuple[str, ...], str]:
    prefix = ("arms", name)
    return {path[2:]: place for path, place in located.places.items() if path[:2] == prefix}


def _train_problems(recipe: Recipe, located: Located) -> list[str]:
    problems: list[str] = []
    for key, value in recipe.sft.train.items():
        problems.append(_train_problem("SFTConfig", key, value, ("sft", "train", key), located))
    for arm in ["wrpo", *recipe.arms]:
        settings = preference(recipe, arm)
        config = _config_name(settings.objective)
        own = recipe.arms.get(arm, {}).get("train", {})
        for key, value in settings.train.items():
            path = ("arms", arm, "train", key) if key in own else ("wrpo", "train", key)
            problems.append(_train_problem(config, key, value, path, located))
    return [problem for problem in dict.fromkeys(problems) if problem]


def _train_problem(
    config: str, key: str, value: Any, path: tuple[str, ...], located: Located
) -> str:
    fields = config_fields(config)
    problem = key_problem(config, key)
    if problem is None and key not in fields:
        close = difflib.get_close_matches(key, fields, n=1)
        problem = f"is not a key of {config}" + (f'; did you mean "{close[0]}"?' if close else "")
    problem = problem or type_problem(config, key, value)
    return f"{located.place(path)}: {'.'.join(path)}: {problem}" if problem else ""

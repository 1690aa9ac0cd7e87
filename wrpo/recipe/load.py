"""Loads a recipe: file, parent, command line, check, save.

Precedence, lowest first: schema default, parent recipe (`extends:`), recipe, `key=value`.
"""

from __future__ import annotations

import difflib
import types
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import is_typeddict

from wrpo.display.redaction import redact_override
from wrpo.errors import RecipeError
from wrpo.files import is_file, replacing
from wrpo.objectives.base import ObjectiveSettings
from wrpo.recipe.backends import engine_problems, fitting, merge_layers
from wrpo.recipe.foreign_keys import key_problem
from wrpo.recipe.names import refuse_names
from wrpo.recipe.schema import Recipe
from wrpo.recipe.secrets import refuse_secrets
from wrpo.recipe.shipped import FOLDER, shipped_folder
from wrpo.recipe.training import OBJECTIVES, Preference
from wrpo.recipe.yaml_source import Located, dump_yaml, merge, parse_yaml, read_yaml
from wrpo.settings import lacks
from wrpo.training.settings import AUTO
from wrpo.training.trl_keys import honours

COMMAND_LINE = "command line"
_PREFERENCE: TypeAdapter[Any] = TypeAdapter(Preference)


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
    refuse_secrets(located)
    name_sources(located)
    expand_sources(located, path)
    refuse_secrets(located)
    return check(located).read_from(path, overrides or [])


def check(located: Located) -> Recipe:
    """Validates a located tree; all problems in one RecipeError."""
    try:
        recipe = Recipe.model_validate(located.value)
    except ValidationError as error:
        raise RecipeError(explain(error, located)) from None
    problems = [
        f"{located.place(path)}: {'.'.join(path)}: {problem}"
        for path, problem in engine_problems(recipe)
    ]
    problems += _arm_problems(recipe, located) or _train_problems(recipe, located)
    if problems:
        raise RecipeError("\n".join(problems[:MAX_PROBLEMS]))
    return recipe


def preference(recipe: Recipe, arm: str) -> ObjectiveSettings:
    """The settings of one trained model: that of a round, or a name under `arms`.

    A later round is `wrpo` with the differences of `later_rounds`. An arm is `wrpo` with its own;
    it inherits the fields that its objective has, and of the TRL keys under `wrpo.train` those that
    its objective's config honours.
    """
    if arm == recipe.fused_models[0]:
        return recipe.wrpo
    if arm in recipe.fused_models:
        return _changed(recipe.wrpo.model_dump(mode="json"), recipe.later_rounds)
    if arm not in recipe.arms:
        hint = did_you_mean(arm, [*recipe.fused_models, *recipe.arms])
        raise RecipeError(f'no arm "{arm}" in recipe {recipe.run}{hint}')
    own = recipe.arms[arm]
    name = str(own.get("objective", recipe.wrpo.objective))
    kind = OBJECTIVES.get(name, type(recipe.wrpo))
    inherited = recipe.wrpo.model_dump(mode="json", include=set(kind.model_fields))
    if kind.config != recipe.wrpo.config:
        train = inherited["train"]
        inherited["train"] = {key: train[key] for key in train if honours(kind.config, key)}
    if not kind.loss_by_row and inherited["engine"]["per_device_batch_size"] == AUTO:
        del inherited["engine"]["per_device_batch_size"]
    if not kind.compiles:
        del inherited["engine"]["compile"]
    if recipe.wrpo.data not in kind.tables:
        del inherited["data"]
    return _changed(inherited, own)


def _changed(settings: dict[str, Any], differences: dict[str, Any]) -> ObjectiveSettings:
    changed: ObjectiveSettings = _PREFERENCE.validate_python(merge(settings, differences))
    return changed


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
    refuse_secrets(located)
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
    merged = merge_layers(parent.value, located.value)
    return Located(merged, {**parent.places, **located.places})


def _override(located: Located, item: str) -> None:
    key, equals, text = item.partition("=")
    shown = redact_override(item)
    if item.startswith("-") or not equals or not all(key.split(".")):
        raise RecipeError(
            f'{COMMAND_LINE}: "{shown}" is not key=value; flags choose what to run, '
            "key=value changes the recipe, e.g. wrpo.alpha.end=0.2"
        )
    value = parse_yaml(text, name=f'{COMMAND_LINE} "{shown}"').value if text else None
    node = located.value
    steps = key.split(".")
    for step in steps[:-1]:
        if not isinstance(node.get(step), dict):
            node[step] = {}
        if step == "engine" and steps[-1] == "backend":
            node[step] = fitting(node[step], value)
        node = node[step]
    node[steps[-1]] = value
    path = tuple(steps)
    for known in [place for place in located.places if place[: len(path)] == path]:
        del located.places[known]
    for end in range(1, len(path) + 1):
        located.places.setdefault(path[:end], f'{COMMAND_LINE} "{shown}"')


def _arm_problems(recipe: Recipe, located: Located) -> list[str]:
    problems: list[str] = []
    places: dict[str, tuple[str, ...]] = {name: ("arms", name) for name in recipe.arms}
    places |= dict.fromkeys(recipe.fused_models[1:2], ("later_rounds",))
    for name, path in places.items():
        try:
            preference(recipe, name)
        except ValidationError as error:
            problems += explain_arm(error, _section(located, path), path)
    return problems


def _section(located: Located, prefix: tuple[str, ...]) -> Located:
    """The places below a key, relative to it."""
    size = len(prefix)
    places = located.places.items()
    return Located(None, {path[size:]: place for path, place in places if path[:size] == prefix})


def _train_problems(recipe: Recipe, located: Located) -> list[str]:
    problems = [
        _train_problem("SFTConfig", key, recipe.sft.train, ("sft", "train", key), located)
        for key in recipe.sft.train
    ]
    own: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {"wrpo": ({}, ("wrpo",))}
    own |= dict.fromkeys(recipe.fused_models[1:2], (recipe.later_rounds, ("later_rounds",)))
    own |= {arm: (changes, ("arms", arm)) for arm, changes in recipe.arms.items()}
    for arm, (changes, place) in own.items():
        settings = preference(recipe, arm)
        for key in settings.train:
            path = (*(place if key in changes.get("train", {}) else ("wrpo",)), "train", key)
            problems.append(_train_problem(settings.config, key, settings.train, path, located))
    return [problem for problem in dict.fromkeys(problems) if problem]


def _train_problem(
    config: str, key: str, train: dict[str, Any], path: tuple[str, ...], located: Located
) -> str:
    problem = key_problem(config, key, train)
    return f"{located.place(path)}: {'.'.join(path)}: {problem}" if problem else ""


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
    try:
        refuse_names(sources)
    except ValueError as error:
        raise RecipeError(f"{located.place(('sources',))}: sources: {error}") from None
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
        expanded[name] = merge_layers(entry.value, over)
        for path, where in entry.places.items():
            located.places.setdefault(("sources", name, *path), where)
    located.value["sources"] = expanded


def _source_file(name: str, recipe_path: Path, place: str) -> Path:
    folders = [folder / "sources" for folder in recipe_path.resolve().parents]
    folders += [FOLDER / "sources", shipped_folder() / "sources"]
    for folder in folders:
        if is_file(folder / f"{name}.yaml"):
            return folder / f"{name}.yaml"
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise RecipeError(
        f'{place}: unknown source "{name}"{did_you_mean(name, known)}; '
        f"give it a `model:` here or write recipes/sources/{name}.yaml"
    )


MAX_PROBLEMS = 10
_TAGS = ("type", "backend", "objective", "benchmark")


def refusal(problem: ErrorDetails) -> str:
    """What is wrong with one value, and the value itself where the words do not name it."""
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if problem["type"] in ("value_error", "missing", "extra_forbidden"):
        return message
    return f"{message}, not {repr(problem['input'])[:80]}"


def explain(error: ValidationError, located: Located) -> str:
    """What is wrong with a recipe, one line with its place per problem."""
    problems = []
    for item in error.errors():
        path = _place(item)
        shown = _walk(path).shown
        place = located.place(tuple(shown))
        problems.append(f"{place}: {'.'.join(shown) or 'recipe'}: {_what(item, path)}")
    return "\n".join(dict.fromkeys(problems[:MAX_PROBLEMS]))


def explain_arm(error: ValidationError, located: Located, section: tuple[str, ...]) -> list[str]:
    """The same of what is `wrpo` with differences; places are relative to its section."""
    lines = []
    for item in error.errors():
        path = ("wrpo", *_place(item))
        own = tuple(_walk(path).shown)[1:]
        shown = ".".join((*section, *own))
        lines.append(f"{located.place(own)}: {shown}: {_what(item, path)}")
    return lines


def _what(item: ErrorDetails, path: tuple[str, ...]) -> str:
    """What is wrong at a key path of the schema."""
    if item["type"] == "union_tag_invalid":
        kinds = [name.strip("' ") for name in item["ctx"]["expected_tags"].split(",")]
        return f'there is no "{item["ctx"]["tag"]}"{did_you_mean(item["ctx"]["tag"], kinds)}'
    if item["type"] == "extra_forbidden":
        return _unknown_key(path)
    return "is required and not given" if item["type"] == "missing" else refusal(item)


def _place(item: ErrorDetails) -> tuple[str, ...]:
    """The key path of a problem; of a tag that names no objective, that of the tag."""
    path = tuple(str(step) for step in item["loc"])
    if item["type"] == "union_tag_invalid" and path[:1] in ((), ("wrpo",)):
        return (*path, "objective")
    return path


def _unknown_key(path: tuple[str, ...]) -> str:
    """Of a key that others of its kind have, which ones."""
    *above, key = path
    walk = _walk(tuple(above))
    if walk.among is not None:
        word, sections = walk.among
        kinds = {word: kind for kind in sections for word in _tags(kind)}
        if problem := lacks(key, word, kinds, tag=_tags(walk.kinds[0])[word]):
            return problem
    for kind in walk.kinds:
        if new := getattr(kind, "renamed", {}).get(key):
            return f'unknown key; its name is now "{new}"'
    known = {name for kind in walk.kinds for name in _fields_of(kind)}
    return f"unknown key{did_you_mean(key, sorted(known))}"


def did_you_mean(word: str, known: list[str]) -> str:
    """The end of a message: the nearest known word, or all of them where none is near."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known: {', '.join(known)}" if known else ""


class _Walk(NamedTuple):
    """A key path as the recipe has it, and what is allowed there.

    Attributes:
        shown: the path without tags.
        kinds: the sections that are allowed there.
        among: where the path ends at a section of several kinds: its tag, and those of all kinds.
    """

    shown: list[str]
    kinds: list[Any]
    among: tuple[str, list[Any]] | None


def _walk(path: tuple[str, ...]) -> _Walk:
    """Follows the key path of a problem.

    pydantic adds to its paths which section of a tagged union it took, e.g. "judge" below a reward.
    """
    shown: list[str] = []
    kinds: list[Any] = [Recipe]
    among = None
    for step in path:
        tagged = [kind for kind in kinds if step in _tags(kind)]
        if tagged and len(kinds) > 1:
            kinds, among = tagged, (step, kinds)
            continue
        shown.append(step)
        below = [section for kind in kinds for section in _below(kind, step)]
        by_name = [
            each for kind in kinds if is_typeddict(kind) for each in _fields_of(kind).values()
        ]
        kinds, among = below or kinds, (step, by_name) if below and by_name else None
    return _Walk(shown, kinds, among)


def _tags(kind: Any) -> dict[str, str]:
    """The words by which a recipe chooses this section among others, and the key of each."""
    fields = _fields_of(kind)
    named = [name for name in _TAGS if name in fields]
    return {str(word): n for n in named for word in get_args(fields[n])}


def _below(kind: Any, step: str) -> list[Any]:
    return _sections_in(_fields_of(kind).get(step))


def _fields_of(kind: Any) -> dict[str, Any]:
    """Names and types of what a section holds, or a mapping that is a section by name."""
    if is_typeddict(kind):
        return get_type_hints(kind)
    return {name: field.annotation for name, field in kind.model_fields.items()}


def _sections_in(annotation: Any) -> list[Any]:
    if is_typeddict(annotation):
        return [annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated, dict, list):
        return [section for inner in get_args(annotation) for section in _sections_in(inner)]
    return []

"""What the schema refuses, in the words of a recipe's messages."""

from __future__ import annotations

import difflib
import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from wrpo.recipe.executor_sections import EXECUTOR_TYPES
from wrpo.recipe.reward_sections import REWARD_TYPES
from wrpo.recipe.schema import Recipe
from wrpo.recipe.yaml_source import Located

MAX_PROBLEMS = 10


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
        path = tuple(str(step) for step in item["loc"])
        shown = ".".join(_without_tags(path, located)) or "recipe"
        problems.append(f"{located.place(path)}: {shown}: {_what(item, path)}")
    return "\n".join(dict.fromkeys(problems[:MAX_PROBLEMS]))


def explain_arm(error: ValidationError, located: Located, name: str) -> list[str]:
    """The same of one arm, which is `wrpo` with differences; places are relative to the arm."""
    lines = []
    for item in error.errors():
        path = tuple(str(step) for step in item["loc"])
        shown = ".".join(("arms", name, *path))
        lines.append(f"{located.place(path)}: {shown}: {_what(item, ('wrpo', *path))}")
    return lines


def _what(item: ErrorDetails, path: tuple[str, ...]) -> str:
    """What is wrong at a key path of the schema."""
    if item["type"] == "extra_forbidden":
        return f"unknown key{did_you_mean(path[-1], sorted(_fields_at(path[:-1])))}"
    return "is required and not given" if item["type"] == "missing" else refusal(item)


def did_you_mean(word: str, known: list[str]) -> str:
    """The end of a message: the nearest known word, or all of them where none is near."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known: {', '.join(known)}" if known else ""


def _without_tags(path: tuple[str, ...], located: Located) -> list[str]:
    """Drops the union tag that pydantic puts into the location of a reward or the executor."""
    if len(path) > 2 and path[0] == "rewards" and path[2] in REWARD_TYPES:
        return [*path[:2], *path[3:]]
    if len(path) > 1 and path[0] == "executor" and path[1] in EXECUTOR_TYPES:
        return [path[0], *path[2:]]
    return list(path)


def _fields_at(path: tuple[str, ...]) -> set[str]:
    """The keys that the schema knows under a key path."""
    kinds: list[Any] = [Recipe]
    for step in path:
        below: list[Any] = []
        for kind in kinds:
            below.extend(_below(kind, step))
        kinds = below or kinds
    return {name for kind in kinds for name in kind.model_fields}


def _below(kind: type[BaseModel], step: str) -> list[type[BaseModel]]:
    if step not in kind.model_fields:
        return []
    return _models_in(kind.model_fields[step].annotation)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated, dict, list):
        return [model for inner in get_args(annotation) for model in _models_in(inner)]
    return []

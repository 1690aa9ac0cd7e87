"""Recipes hold no secrets: they are copied into runs, manifests, reports and logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wrpo.display.redaction import holds_secret, names_secret, redact
from wrpo.errors import RecipeError
from wrpo.recipe.yaml_source import KeyPath, Located

_REMEDY = (
    "a recipe is copied into runs, reports and logs, so that it holds no key, password or token. "
    "Keys of servers stand in the environment variable that api_key_env names, that of the hub in "
    "HF_TOKEN; download what needs a password, and name the local path"
)


def refuse_secrets(located: Located) -> None:
    """Refuses a recipe that holds a secret, without repeating it.

    Raises:
        RecipeError: names each place.
    """
    found = [
        f"{located.place(path)}: {redact('.'.join(path))}: {what}; {_REMEDY}"
        for path, what in _secrets(located.value, ())
    ]
    if found:
        raise RecipeError("\n".join(found))


def _secrets(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Key paths of secrets, and what gives each away."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if holds_secret(key):
                yield (*path, key), "the key looks like a secret"
            elif names_secret(key) and isinstance(inner, (str, int, float)) and inner is not False:
                yield (*path, key), "holds a secret, by its name"
            else:
                yield from _secrets(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _secrets(inner, (*path, str(index)))
    elif isinstance(value, str) and holds_secret(value):
        yield path, f"holds a secret ({redact(value)[:100]})"

"""The fields that every family of shipped recipes sets: what a new recipe is likely to need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wrpo.recipe.yaml_source import read_yaml

Node = dict[str, Any]

_RECIPES = Path(__file__).parents[2] / "recipes"
_FAMILIES = ("demo.yaml", "llama3-8b-wrpo*.yaml", "fusechat3/*.yaml")


def common_fields(schema: Node) -> dict[str, Node]:
    """Key paths, in the order of the schema, with what it says of them; none without the recipes.

    NAME stands for a name that the user chooses.

    Args:
        schema: what one recipe file may hold, as JSON Schema.
    """
    families = [_fields_of(pattern, schema) for pattern in _FAMILIES]
    order = list(schema["properties"])
    shared = [path for path in families[0] if all(path in family for family in families)]
    shared.sort(key=lambda path: order.index(path.partition(".")[0]))
    return {path: families[0][path] for path in shared}


def _fields_of(pattern: str, schema: Node) -> dict[str, Node]:
    definitions: dict[str, Node] = schema["$defs"]
    found: dict[str, Node] = {}
    for path in sorted(_RECIPES.glob(pattern)):
        recipe = {key: value for key, value in read_yaml(path).value.items() if key != "extends"}
        for key, value in recipe.items():
            found |= dict(_walk(key, value, schema["properties"][key], definitions))
    return found


def _walk(
    path: str, value: Any, node: Node, definitions: dict[str, Node]
) -> Iterator[tuple[str, Node]]:
    """What a value sets, and the mappings by name on the way to it."""
    sections = list(_sections(node, definitions))
    if not isinstance(value, dict) or not sections:
        yield path, node
        return
    for key, below in value.items():
        fields = [s["properties"][key] for s in sections if key in s.get("properties", {})]
        named = [s["additionalProperties"] for s in sections if s.get("additionalProperties")]
        if fields:
            yield from _walk(f"{path}.{key}", below, _any(fields), definitions)
            continue
        yield path, node
        if named and isinstance(named[0], dict):
            yield from _walk(f"{path}.NAME", below, named[0], definitions)


def _sections(node: Node, definitions: dict[str, Node]) -> Iterator[Node]:
    """The objects that a node may be."""
    if "$ref" in node:
        yield from _sections(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions)
    for option in node.get("anyOf", []):
        yield from _sections(option, definitions)
    if node.get("type") == "object":
        yield node


def _any(fields: list[Node]) -> Node:
    """One field for the same key of several kinds, which their names tell apart."""
    names = [field["const"] for field in fields if "const" in field]
    return {"enum": names} if len(names) > 1 else fields[0]

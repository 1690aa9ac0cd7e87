"""The recipe's schema as JSON Schema: for editors, and as the source of docs/recipe.md.

`python -m wrpo schema` prints it. `make setup` writes recipes/schema.json, which the first line of
each recipe names for editors and git does not track; `make reference` writes docs/recipe.md.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from typing import Any

from wrpo.recipe.common_fields import Node, common_fields
from wrpo.recipe.foreign_keys import config_fields
from wrpo.recipe.schema import Recipe
from wrpo.recipe.training import OBJECTIVES
from wrpo.training.trl_keys import honours

TRL_VERSIONS = "x-versions"
"""Key of the schema that names the packages whose configs the `train:` keys are read from."""

_TYPES = {
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "str": "string",
    "list": "array",
    "dict": "object",
    "None": "null",
}


def recipe_schema() -> dict[str, Any]:
    """The resolved recipe: what pydantic checks, with defaults and descriptions."""
    return Recipe.model_json_schema(mode="validation")


def editor_schema() -> dict[str, Any]:
    """What one recipe file may hold before its parent, its sources' files and overrides are merged.

    Nothing is required, because a parent may give it; the loader says what is missing.
    """
    schema: dict[str, Any] = _optional(recipe_schema())
    definitions = schema["$defs"]
    _set_train_keys(definitions["SFT"], ["SFTConfig"])
    definitions["Preference"] = _any_objective(definitions)
    _set_train_keys(definitions["Preference"], ["WRPOConfig", "SFTConfig"])
    schema["properties"]["wrpo"] = {"$ref": "#/$defs/Preference"}
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Parent recipe, relative to this file; what is written here wins.",
    }
    schema["properties"]["arms"]["additionalProperties"] = {"$ref": "#/$defs/Preference"}
    _widen_sources(schema["properties"]["sources"])
    versions = {name: importlib.metadata.version(name) for name in ("transformers", "trl")}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "wrpo recipe",
        TRL_VERSIONS: versions,
        **{key: value for key, value in schema.items() if key != "title"},
    }


def editor_schema_text() -> str:
    """The file recipes/schema.json."""
    return json.dumps(editor_schema(), separators=(",", ":"), ensure_ascii=False) + "\n"


def _any_objective(definitions: dict[str, Any]) -> dict[str, Any]:
    """One section with the fields of all objectives; the loader says which of them has which."""
    properties: dict[str, Any] = {}
    for kind in reversed(OBJECTIVES.values()):
        properties |= definitions[kind.__name__]["properties"]
    properties["objective"] = {"enum": list(OBJECTIVES), "default": "wrpo"}
    description = "The preference stage: WRPO, or a baseline on the same rows."
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "additionalProperties": False,
    }


def _optional(node: Any) -> Any:
    """Drops `required`, and lets a part of a tagged union match without its tag."""
    if isinstance(node, list):
        return [_optional(item) for item in node]
    if not isinstance(node, dict):
        return node
    loose = {}
    for key, value in node.items():
        if (key == "required" and isinstance(value, list)) or key == "discriminator":
            continue
        loose["anyOf" if key == "oneOf" else key] = _optional(value)
    return loose


def _set_train_keys(section: dict[str, Any], configs: list[str]) -> None:
    keys: dict[str, Any] = {}
    for config in configs:
        for name, annotation in config_fields(config).items():
            if honours(config, name):
                keys.setdefault(name, {"description": f"TRL: {annotation}", **_type(annotation)})
    section["properties"]["train"] |= {
        "properties": dict(sorted(keys.items())),
        "additionalProperties": False,
    }


def _type(annotation: str) -> dict[str, Any]:
    """JSON types of an annotation such as `int | None`; nothing where it has other types too."""
    kinds = [_TYPES.get(part.strip().split("[")[0]) for part in annotation.split("|")]
    if None in kinds:
        return {}
    return {"type": kinds[0] if len(kinds) == 1 else kinds}


def _widen_sources(sources: dict[str, Any]) -> None:
    model = sources["additionalProperties"]
    description = sources.pop("description")
    named = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {
            "anyOf": [
                model,
                {"type": "null", "description": "The file of that name in recipes/sources."},
                {"type": "string", "description": "Name of a file in recipes/sources."},
            ]
        },
    }
    listed = {"type": "array", "minItems": 1, "items": {"type": "string"}, "uniqueItems": True}
    sources.clear()
    sources |= {
        "description": f"{description} A list of names, or names with models.",
        "anyOf": [listed, named],
    }


HEAD = """\
# Recipe reference

Made from the schema by `make reference`; do not edit it by hand. Unknown keys are refused, and no
field under `engine:` changes a result. A section that several fields lead to has one table. TRL's
own keys go under `sft.train` and `wrpo.train`. An arm (`arms.NAME`) has the fields of `wrpo`.
"""

COMMON = """\
## Common fields

What the shipped recipes of all three families set: `demo.yaml`, `llama3-8b-wrpo*.yaml` and
`fusechat3/`. NAME is a name of your own. A new recipe seldom needs more.
"""

EVERYTHING = "## All fields\n"

_TABLE = ("| field | type | default | range | |", "|---|---|---|---|---|")

_LIMITS = {
    "minimum": ">= {}",
    "exclusiveMinimum": "> {}",
    "maximum": "<= {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "minItems": "at least {}",
    "minProperties": "at least {}",
    "pattern": "matches `{}`",
}


def recipe_reference() -> str:
    """The whole page as markdown."""
    schema = recipe_schema()
    writer = _Writer(schema.pop("$defs"))
    return "\n".join([HEAD, *_common_section(), EVERYTHING, *writer.section("", schema)])


def _common_section() -> Iterator[str]:
    schema = editor_schema()
    fields = common_fields(schema)
    writer = _Writer(schema["$defs"])
    yield COMMON
    yield from _TABLE
    for path, field in fields.items():
        # What TRL says of its keys depends on the installed version.
        yield writer.row(path, {"type": "TRL's own"} if ".train." in path else field)
    yield ""


class _Writer:
    """Writes each section once, under the first path that leads to it."""

    def __init__(self, definitions: dict[str, Node]) -> None:
        self.definitions = definitions
        self.written: dict[str, str] = {}

    def section(self, path: str, node: Node) -> Iterator[str]:
        required = node.get("required", [])
        tags = ("type", "backend", "objective")
        kinds = {key: node["properties"].get(key, {}).get("const") for key in tags}
        tag = "".join(f", {key}: {kind}" for key, kind in kinds.items() if kind)
        yield f"### {_code(path) + tag if path else 'Top level'}\n"
        if node.get("description"):
            yield f"{node['description']}\n"
        yield from _TABLE
        below: list[tuple[str, str]] = []
        for name, field in node["properties"].items():
            place = f"{path}.{name}" if path else name
            yield self.row(name, field, required=name in required)
            below += [(f"{place}{step}", section) for step, section in self._sections(field)]
        yield ""
        for place, name in below:
            if name not in self.written:
                self.written[name] = place
                yield from self.section(place, self.definitions[name])

    def row(self, name: str, field: Node, *, required: bool = False) -> str:
        """A line of a table."""
        default = "required" if required else self._default(field)
        limits = ", ".join(dict.fromkeys(self._limits(field)))
        cells = [_code(name), self._type(field), default, limits, self._text(field)]
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    def _text(self, field: Node) -> str:
        own = field.get("description")
        named = [self.definitions[name].get("description", "") for _, name in self._sections(field)]
        return str(own or (named[0] if len(named) == 1 else "")).replace("\n", " ")

    def _sections(self, field: Node) -> list[tuple[str, str]]:
        """(what follows the field's name, section's name) of every section it leads to."""
        if "$ref" in field:
            name = field["$ref"].rsplit("/", 1)[-1]
            return [("", name)] if "properties" in self.definitions[name] else []
        found = [item for option in _options(field) for item in self._sections(option)]
        if isinstance(field.get("additionalProperties"), dict):
            found += [
                (f".NAME{step}", name)
                for step, name in self._sections(field["additionalProperties"])
            ]
        return found

    def _type(self, field: Node) -> str:
        if "$ref" in field:
            return "section"
        if "const" in field:
            return _code(field["const"])
        if "enum" in field:
            return " or ".join(_code(value) for value in field["enum"])
        options = _options(field)
        if options:
            return " or ".join(dict.fromkeys(self._type(option) for option in options))
        kind = field.get("type", "any")
        if kind == "array":
            inner = field.get("items") or {"anyOf": field.get("prefixItems", [])}
            return f"list of {self._type(inner)}"
        if kind == "object":
            inner = field.get("additionalProperties")
            return f"mapping to {self._type(inner)}" if isinstance(inner, dict) else "mapping"
        return "path" if field.get("format") == "path" else str(kind)

    def _default(self, field: Node) -> str:
        if "default" not in field or "$ref" in field:
            return ""
        value = field["default"]
        return "unset" if value is None else _code(json.dumps(value, ensure_ascii=False))

    def _limits(self, field: Node) -> Iterator[str]:
        for key, text in _LIMITS.items():
            if key in field:
                limit = field[key]
                yield text.format(f"{limit:g}" if isinstance(limit, float) else limit)
        for inner in _options(field):
            yield from self._limits(inner)


def _options(field: Node) -> list[Node]:
    options: list[Node] = field.get("anyOf") or field.get("oneOf") or []
    return options


def _code(text: Any) -> str:
    return f"`{text}`"

"""The page docs/recipe.md: every field of the recipe, made from its schema.

`python -m wrpo reference` prints it; `make reference` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from wrpo.recipe.json_schema import recipe_schema

HEAD = """\
# Recipe reference

Made from the schema by `make reference`; do not edit it by hand. Unknown keys are refused, and no
field under `engine:` changes a result. A section that several fields lead to has one table. TRL's
own keys stand under `sft.train` and `wrpo.train`. An arm (`arms.NAME`) has the fields of `wrpo`.
"""

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

Node = dict[str, Any]


def reference_text() -> str:
    """The whole page as markdown."""
    schema = recipe_schema()
    writer = _Writer(schema.pop("$defs"))
    return "\n".join([HEAD, *writer.section("", schema)])


class _Writer:
    """Writes each section once, under the first path that leads to it."""

    def __init__(self, definitions: dict[str, Node]) -> None:
        self.definitions = definitions
        self.written: dict[str, str] = {}

    def section(self, path: str, node: Node) -> Iterator[str]:
        required = node.get("required", [])
        kind = node["properties"].get("type", {}).get("const")
        tag = f", type: {kind}" if kind else ""
        yield f"## {_code(path) + tag if path else 'Top level'}\n"
        if node.get("description"):
            yield f"{node['description']}\n"
        yield "| field | type | default | range | |"
        yield "|---|---|---|---|---|"
        below: list[tuple[str, str]] = []
        for name, field in node["properties"].items():
            place = f"{path}.{name}" if path else name
            yield self._row(name, field, required=name in required)
            below += [(f"{place}{step}", section) for step, section in self._sections(field)]
        yield ""
        for place, name in below:
            if name not in self.written:
                self.written[name] = place
                yield from self.section(place, self.definitions[name])

    def _row(self, name: str, field: Node, *, required: bool) -> str:
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

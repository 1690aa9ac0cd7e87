"""The recipe's schema as JSON Schema: for editors, and as the source of docs/recipe.md.

`python -m wrpo schema` prints it; `make reference` writes recipes/schema.json and docs/recipe.md.
"""

from __future__ import annotations

import importlib.metadata
import json
from typing import Any

from wrpo.recipe.schema import Recipe
from wrpo.recipe.trl_keys import STATED_ELSEWHERE, config_fields, key_problem

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
    _set_train_keys(definitions["Preference"], ["WRPOConfig", "SFTConfig"])
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
    return json.dumps(editor_schema(), indent=1, ensure_ascii=False) + "\n"


def without_train_keys(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy without what depends on the installed TRL and transformers."""
    plain: dict[str, Any] = json.loads(json.dumps(schema))
    plain.pop(TRL_VERSIONS)
    for name in ("SFT", "Preference"):
        del plain["$defs"][name]["properties"]["train"]
    return plain


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
            if key_problem(config, name) is None:
                keys.setdefault(name, {"description": f"TRL: {annotation}", **_type(annotation)})
    for name in STATED_ELSEWHERE:
        keys.pop(name, None)
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

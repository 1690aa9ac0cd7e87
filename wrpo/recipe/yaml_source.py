"""YAML in, plain values plus the file and line of every key out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from wrpo.errors import RecipeError
from wrpo.recipe.shipped import shipped_recipes

KeyPath = tuple[str, ...]

_TAGS = {"map", "seq", "str", "int", "float", "bool", "null", "merge"}

LARGEST_FILE = 2**18
"""Bytes of a recipe; the parser needs about ten seconds per megabyte."""

MOST_VALUES = 20_000
"""Values of a recipe after its aliases (`*name`) are replaced by what they name."""

_LARGEST_INT = 2**63 - 1


@dataclass
class Located:
    """A tree of plain values and the place where each key was written.

    `places` maps a key path such as ("sft", "train", "learning_rate") to "recipes/demo.yaml:14".
    """

    value: Any
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: tuple[Any, ...]) -> str:
        """The place of the deepest known part of `path`; steps that are no keys are skipped."""
        known: KeyPath = ()
        for step in path:
            if (*known, str(step)) in self.places:
                known = (*known, str(step))
        return self.places.get(known, "recipe")


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: `5e-7` is a float, `no` is a word, only true and false are booleans."""

    yaml_implicit_resolvers: dict[str, Any] = {}


def _resolve(tag: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first))


_resolve("null", r"^(?:~|null|Null|NULL|)$", "~nN\0")
_Loader.yaml_implicit_resolvers.setdefault("", []).append(
    ("tag:yaml.org,2002:null", re.compile(r"^$"))
)
_resolve("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF")
_resolve("int", r"^[-+]?[0-9]+$", "-+0123456789")
_resolve(
    "float",
    r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
    r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$",
    "-+0123456789.",
)
_resolve("merge", r"^<<$", "<")


def _construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    if len(text) > 20 or abs(int(text)) > _LARGEST_INT:
        raise yaml.constructor.ConstructorError(
            problem=f"the number {text[:20]}... has {len(text.lstrip('+-'))} digits; the largest "
            "is 2^63 - 1",
            problem_mark=node.start_mark,
        )
    return int(text)


_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else."""

    yaml_implicit_resolvers = {
        first: [
            *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
            *_Loader.yaml_implicit_resolvers.get(first, []),
        ]
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
    }


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Other styles write these line breaks of Unicode as they are, and reading folds them.
    style = '"' if any(mark in text for mark in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump_yaml(value: Any) -> str:
    """Plain values as YAML text that this loader, and any other, reads back the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Mappings merge key by key; everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        both_mappings = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both_mappings else value
    return merged


def read_yaml(path: Path) -> Located:
    """Reads one YAML mapping.

    Raises:
        RecipeError: the file is missing, unreadable, not YAML, not a mapping, or repeats a key.
    """
    name = str(path)
    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= LARGEST_FILE else ""
    except FileNotFoundError:
        raise RecipeError(
            f"{name}: no such recipe file here ({Path.cwd()}); name one with --recipe. "
            f"Those that come with the toolkit have names: {', '.join(shipped_recipes())}"
        ) from None
    except IsADirectoryError:
        inside = ", ".join(sorted(file.name for file in path.glob("*.yaml"))) or "none"
        raise RecipeError(
            f"{name} is a folder; --recipe takes a YAML file, and in this folder are: {inside}"
        ) from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{name}: cannot be read as UTF-8 text ({error})") from None
    if size > LARGEST_FILE:
        raise RecipeError(
            f"{name}: has {size:,} bytes, and a recipe has at most {LARGEST_FILE:,}; is it the "
            "right file? Prompts and other data belong into files that the recipe names"
        )
    located = parse_yaml(text, name=name)
    if not isinstance(located.value, dict):
        kind = type(located.value).__name__
        raise RecipeError(f"{name}:1: a recipe is a mapping of keys to values, this is a {kind}")
    return located


def parse_yaml(text: str, *, name: str) -> Located:
    """Parses YAML text; `name` is how messages call the file."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        located = Located(value={})
        if node is not None:
            _refuse_expansion(node, name)
            located.value = _value(loader, node, (), name, located.places)
        return located
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{name}:{line}: not valid YAML: {error.problem}") from None
    except RecipeError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RecipeError(f"{name}: not valid YAML: {first_line}") from None


def _refuse_expansion(root: yaml.Node, name: str) -> None:
    """Refuses aliases that contain themselves, or would make a file much larger than it is."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        line = node.start_mark.line + 1
        if id(node) in open_nodes:
            raise RecipeError(f"{name}:{line}: an alias names what contains it; write it out")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            children = [] if isinstance(node, yaml.ScalarNode) else node.value
            if isinstance(node, yaml.MappingNode):
                children = [value for _, value in children]
            sizes[id(node)] = 1 + sum(map(size, children))
            open_nodes.remove(id(node))
        if sizes[id(node)] > MOST_VALUES:
            raise RecipeError(
                f"{name}:{line}: aliases make more than {MOST_VALUES:,} values of it, the most "
                "that a recipe may have; name fewer of them"
            )
        return sizes[id(node)]

    size(root)


def _value(
    loader: _Loader, node: yaml.Node, path: KeyPath, name: str, places: dict[KeyPath, str]
) -> Any:
    places.setdefault(path, f"{name}:{node.start_mark.line + 1}")
    if node.tag.removeprefix("tag:yaml.org,2002:") not in _TAGS:
        line = node.start_mark.line + 1
        raise RecipeError(f"{name}:{line}: the YAML tag {node.tag} is not allowed in a recipe")
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node, path, name, places)
    if isinstance(node, yaml.SequenceNode):
        return [
            _value(loader, item, (*path, str(index)), name, places)
            for index, item in enumerate(node.value)
        ]
    return loader.construct_object(node, deep=True)


def _mapping(
    loader: _Loader,
    node: yaml.MappingNode,
    path: KeyPath,
    name: str,
    places: dict[KeyPath, str],
) -> dict[str, Any]:
    _refuse_repeated_keys(loader, node, name)
    loader.flatten_mapping(node)
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, (str, int, float, bool)):
            raise RecipeError(f"{name}:{line}: a key must be a word, this is {key!r}")
        places[(*path, str(key))] = f"{name}:{line}"
        result[str(key)] = _value(loader, value_node, (*path, str(key)), name, places)
    return result


def _refuse_repeated_keys(loader: _Loader, node: yaml.MappingNode, name: str) -> None:
    seen: dict[str, int] = {}
    for key_node, _ in node.value:
        key = str(key_node.value)
        line = key_node.start_mark.line + 1
        if key in seen and key != "<<":
            raise RecipeError(
                f'{name}:{line}: "{key}" is written twice, first on line {seen[key]}; keep one'
            )
        seen[key] = line

"""The schema for editors and docs/recipe.md: true of the recipes that are shipped."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from wrpo.recipe.json_schema import editor_schema_text, recipe_reference
from wrpo.recipe.yaml_source import parse_yaml, read_yaml

ROOT = Path(__file__).parents[2]
RECIPES = sorted(
    path
    for folder in ("", "fusechat3", "one-gpu")
    for path in (ROOT / "recipes" / folder).glob("*.yaml")
)
RECIPES = [path for path in RECIPES if path.name != "throughput.yaml"]
SOURCES = sorted((ROOT / "recipes/sources").glob("*.yaml"))
ANEW = "the recipe's schema has changed: run `make reference`"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads(editor_schema_text())


def problems(schema: dict[str, Any], recipe: Any) -> list[str]:
    found = jsonschema.Draft7Validator(schema).iter_errors(recipe)
    return [f"{error.json_path}: {error.message}" for error in found]


def recipe_text(text: str) -> Any:
    return parse_yaml(text, name="test").value


def test_the_reference_is_that_of_the_code() -> None:
    assert (ROOT / "docs/recipe.md").read_text("utf-8") == recipe_reference(), ANEW


def test_the_schema_is_a_schema(schema: dict[str, Any]) -> None:
    jsonschema.Draft7Validator.check_schema(schema)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_fit_and_name_the_schema(path: Path, schema: dict[str, Any]) -> None:
    assert problems(schema, read_yaml(path).value) == []
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text("utf-8"))
    assert named
    assert (path.parent / named[1]).resolve() == ROOT / "recipes/schema.json"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_shipped_sources_fit(path: Path, schema: dict[str, Any]) -> None:
    model = {**schema["$defs"]["Model"], "$defs": schema["$defs"]}
    assert problems(model, read_yaml(path).value) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("sed: 1", "$"),
        ("sample: {temperatur: 1}", "$.sample"),
        ("sample: {top_p: 2}", "$.sample.top_p"),
        ("sft: {train: {learning_rat: 1}}", "$.sft.train"),
        ("wrpo: {train: {output_dir: x}}", "$.wrpo.train"),
        ("arms: {dpo: {betta: 1}}", "$.arms.dpo"),
        ("sources: 3", "$.sources"),
        ("rewards: {r: {type: no-such}}", "$.rewards.r"),
    ],
)
def test_an_editor_shows_what_the_loader_refuses(
    text: str, where: str, schema: dict[str, Any]
) -> None:
    found = problems(schema, recipe_text(text))
    assert [problem.split(": ")[0] for problem in found] == [where]


@pytest.mark.parametrize(
    "text",
    [
        "extends: base.yaml\nrun: x",
        "sources: [a, b]",
        "sources: {a: , b: file, c: {parameters_b: 3}}",
        "rewards: {r: {weight: 2}}",
        "arms: {more-sft: {objective: sft, train: {packing: true}}}",
        "wrpo: {train: {learning_rate: 5e-7, max_steps: 3}}",
        "prompts: {near_duplicates: {}}",
    ],
)
def test_a_file_may_leave_things_to_its_parent(text: str, schema: dict[str, Any]) -> None:
    assert problems(schema, recipe_text(text)) == []


def test_the_reference_names_every_field_with_a_sentence() -> None:
    text = recipe_reference()
    for section in (
        "`sources.NAME.sampling`",
        "`wrpo`, objective: dpo",
        "`wrpo.alpha`",
        "`rewards.NAME`, type: code",
    ):
        assert f"### {section}\n" in text
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", text, re.MULTILINE)
    assert len(rows) > 100
    unsaid = {name for name, sentence in rows if not sentence.strip()}
    assert unsaid <= {"type", "objective", "benchmark", "method"}


def test_the_reference_opens_with_what_all_shipped_recipes_set() -> None:
    common, _, everything = recipe_reference().partition("\n## All fields\n")
    fields = re.findall(r"^\| `([\w.]+)` \|", common, re.MULTILINE)
    assert 20 <= len(fields) <= 30
    assert {"run", "sources", "prompts.datasets.NAME.path", "wrpo.train.learning_rate"} <= {*fields}
    assert not {"sources.NAME.domains", "arms", "sample.engine.enforce_eager"} & {*fields}
    assert everything.startswith("\n### Top level\n")

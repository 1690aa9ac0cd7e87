"""Recipes that are made to exhaust their reader are refused at once, by the line."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from wrpo.errors import RecipeError
from wrpo.recipe.yaml_source import LARGEST_FILE, MOST_VALUES, parse_yaml, read_yaml

LEVELS = "abcdefghijklmnopqrst"


def bomb(first: str, level: str) -> str:
    """Each level holds nine aliases of the one before it."""
    lines = [f"a: &a {first}"]
    for before, name in pairwise(LEVELS):
        lines.append(f"{name}: &{name} " + level.format(*[f"*{before}"] * 9))
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        bomb("[x]", "[" + ", ".join(["{}"] * 9) + "]"),
        bomb("{k: v}", "{{" + ", ".join(f"k{n}: {{}}" for n in range(9)) + "}}"),
        bomb("{k: v}", "{{<<: [" + ", ".join(["{}"] * 9) + "]}}"),
    ],
    ids=["lists", "mappings", "merges"],
)
def test_aliases_that_multiply_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=rf"r\.yaml:\d+: aliases make more than {MOST_VALUES:,}"):
        parse_yaml(text, name="r.yaml")


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "a: &a\n  b: [1, {c: *a}]"])
def test_an_alias_of_what_contains_it_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"r\.yaml:1: an alias names what contains it"):
        parse_yaml(text, name="r.yaml")


def test_aliases_and_merges_of_a_usual_size_are_read() -> None:
    text = "a: &a {x: 1, y: [1, 2]}\nb: *a\nc: {<<: *a, x: 3}"
    read = {"a": {"x": 1, "y": [1, 2]}, "b": {"x": 1, "y": [1, 2]}, "c": {"x": 3, "y": [1, 2]}}
    assert parse_yaml(text, name="r.yaml").value == read


def test_a_file_that_is_no_recipe_by_its_size_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text("a: 1\n" * (LARGEST_FILE // 5 + 1))
    with pytest.raises(RecipeError, match=r"big\.yaml: has [\d,]+ bytes.*the right file"):
        read_yaml(path)


@pytest.mark.parametrize("digits", [19, 20, 100, 4_000, 5_000])
@pytest.mark.parametrize("sign", ["", "-", "+"])
def test_numbers_that_no_setting_can_take_are_refused(digits: int, sign: str) -> None:
    with pytest.raises(RecipeError, match=rf"r\.yaml:2: .*has {digits} digits"):
        parse_yaml(f"a: 1\nseed: {sign}{'9' * digits}", name="r.yaml")


def test_the_largest_number_is_read() -> None:
    assert parse_yaml(f"a: {2**63 - 1}", name="r.yaml").value == {"a": 2**63 - 1}

"""Names that are no folder of their own on every file system are refused when a recipe is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from wrpo.errors import RecipeError
from wrpo.recipe import load_recipe

MODEL = {"model": "org/model"}
ENTRIES: dict[str, Any] = {
    "sources": MODEL,
    "arms": {"objective": "dpo"},
    "judges": {"model": "m", "engine": {"endpoints": ["http://h/v1"]}},
    "rewards": {"type": "answer"},
    "datasets": {"path": "prompts.jsonl"},
}
NO_NAMES = {
    "NUL": "a\0b",
    "newline": "a\nb",
    "newline at the end": "a\n",
    "parent": "..",
    "path": "../a",
    "path inside": "a/../../b",
    "absolute": "/tmp/a",
    "backslash": "a\\b",
    "hidden": ".a",
    "flag": "-a",
    "space": "a b",
    "empty": "",
    "escape": "a\x1b[2J",
    "other script": "名",
    "other dash": "a\u2011b",
    "right to left": "a\u202eb",
    "long": "a" * 101,
    "very long": "a" * 5000,
}


def recipe(folder: Path, room: str, *names: str) -> Path:
    content: dict[str, Any] = {
        "run": "r",
        "sources": {"one": MODEL},
        "target": MODEL,
        "prompts": {"datasets": {"own": {"path": "prompts.jsonl"}}},
        "rewards": {"exact": {"type": "answer"}},
    }
    place = content["prompts"] if room == "datasets" else content
    place[room] = {**place.get(room, {}), **dict.fromkeys(names, ENTRIES[room])}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, list(overrides))
    message = str(caught.value)
    assert len(message) < 1000 and message.count("\n") == 0
    return message


@pytest.mark.parametrize("room", ENTRIES)
@pytest.mark.parametrize("kind", NO_NAMES)
def test_what_is_no_name_is_refused_in_one_line(room: str, kind: str, tmp_path: Path) -> None:
    message = refused(recipe(tmp_path, room, NO_NAMES[kind]))
    assert room in message and "recipe.yaml:" in message
    assert ("characters; a name has 100" if "long" in kind else "is no name: use") in message
    assert not set(message) & set("\0\x1b\u202e")


@pytest.mark.parametrize("room", ENTRIES)
def test_names_that_differ_in_case_only_are_refused(room: str, tmp_path: Path) -> None:
    message = refused(recipe(tmp_path, room, "strict", "Strict"))
    assert "differ in case only" in message and '"strict"' in message and '"Strict"' in message


@pytest.mark.parametrize("room", ENTRIES)
@pytest.mark.parametrize("name", ["a", "A-1_b.c", "0", "a" * 100])
def test_names_are_taken(room: str, name: str, tmp_path: Path) -> None:
    loaded = load_recipe(recipe(tmp_path, room, name))
    named = loaded.prompts.datasets if room == "datasets" else getattr(loaded, room)
    assert name in named


@pytest.mark.parametrize(
    ("room", "name", "words"),
    [
        ("sources", "Target", "name of the pipeline itself"),
        ("arms", "SFT", "name of the pipeline itself"),
        ("arms", "Build", "another folder of the run directory"),
        ("arms", "One", "differ in case only"),
    ],
)
def test_names_of_the_pipeline_are_taken_in_any_case(
    room: str, name: str, words: str, tmp_path: Path
) -> None:
    assert words in refused(recipe(tmp_path, room, name))


@pytest.mark.parametrize("kind", NO_NAMES)
@pytest.mark.parametrize("field", ["run", "reuse"])
def test_runs_have_names_too(field: str, kind: str, tmp_path: Path) -> None:
    path = recipe(tmp_path, "sources")
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, field: NO_NAMES[kind]}))
    assert field in refused(path)

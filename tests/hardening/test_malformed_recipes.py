"""Hundreds of malformed recipes: each loads, or ends in a message with file, line and mistake."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import yaml

from tests.hardening.malformed import damaged_text, damaged_tree
from wrpo.errors import RecipeError, WRPOError
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import load_recipe
from wrpo.recipe.yaml_source import dump_yaml

ROOT = Path(__file__).parents[2]
SHIPPED = [
    path
    for path in sorted((ROOT / "recipes").rglob("*.yaml"))
    if path.parent.name in ("recipes", "fusechat3", "one-gpu") and "run:" in path.read_text()
]
BATCHES = 6
PER_BATCH = 50


def malformed(seed: int) -> str:
    """A damaged copy of a shipped recipe; half of them are damaged as text, half as a tree."""
    chance = random.Random(seed)
    path = chance.choice(SHIPPED)
    text = path.read_text(encoding="utf-8").replace("extends: ", f"extends: {path.parent}/")
    if chance.random() < 0.5:
        return damaged_text(text, chance)
    tree = damaged_tree(yaml.safe_load(text), chance)
    return dump_yaml(tree)


def message(path: Path, text: str) -> str | None:
    """What a user is told of this recipe; None where nothing is wrong."""
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    try:
        Pipeline(load_recipe(path, [f"runs={path.parent / 'runs'}"]))
    except WRPOError as error:
        return str(error)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_malformed_recipe_ends_in_a_message_that_says_where_and_what(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    path = tmp_path / "recipe.yaml"
    refused = 0
    for seed in range(batch * PER_BATCH, (batch + 1) * PER_BATCH):
        text = malformed(seed)
        told = message(path, text)
        if told is None:
            continue
        refused += 1
        assert len(told) < 4000, (seed, told[:500])
        for line in told.split("\n"):
            assert re.search(r"\.yaml(:\d+)?: .{8,}|recipe: .{8,}|: .{8,}", line), (seed, told)
        assert ".yaml" in told or "recipe" in told, (seed, told)
        assert "Traceback" not in told
    assert refused > PER_BATCH // 4  # damage in a comment or a number leaves a good recipe


def test_the_messages_of_broken_yaml_name_the_line(tmp_path: Path) -> None:
    for number, broken in enumerate(("a: [1", "a: b: c", "\ta: 1", 'a: "x', "a: *b", "a: !!bad 1")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(f"run: x\n{broken}\n")
        with pytest.raises(RecipeError, match=rf"{number}\.yaml:[23]: "):
            load_recipe(path)

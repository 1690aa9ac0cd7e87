"""Small recipes for tests."""

from __future__ import annotations

import textwrap
from pathlib import Path

from wrpo.recipe import Recipe, load_recipe

MINIMAL = """\
run: tiny
sources:
  letters:
    model: hub/letters
  numbers:
    model: hub/numbers
target:
  model: hub/target
prompts:
  datasets:
    world:
      path: hub/prompts
rewards:
  rm:
    type: classifier
    model: hub/rm
"""


def write_recipe(folder: Path, text: str = MINIMAL, *, name: str = "recipe.yaml") -> Path:
    """Writes a recipe file and returns its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def tiny_recipe(folder: Path, *overrides: str, extra: str = "") -> Recipe:
    """The minimal recipe with its run directory below `folder`."""
    path = write_recipe(folder, MINIMAL + textwrap.dedent(extra))
    return load_recipe(path, [f"runs={folder / 'runs'}", *overrides])

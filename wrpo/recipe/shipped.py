"""The recipes and sources that come with the toolkit, in a checkout and in an installed wheel."""

from __future__ import annotations

import re
from pathlib import Path

from wrpo.files import is_file

FOLDER = Path("recipes")
"""Where a checkout has them; a recipe of one's own may name files below it."""

_RUN = re.compile(r"^run: \w", re.MULTILINE)
"""What recipes have, and sources and configurations of other programs have not."""


def shipped_folder() -> Path:
    """Where they are: a folder of this package in a wheel, `recipes/` of the repository else."""
    package = Path(__file__).parents[1]
    installed = package / "shipped"
    return installed if installed.is_dir() else package.parent / FOLDER


def shipped_recipes() -> list[str]:
    """The names of the recipes, as --recipe takes them, e.g. fusechat3/llama32-1b."""
    folder = shipped_folder()
    files = (file for file in folder.rglob("*.yaml") if _RUN.search(file.read_text("utf-8")))
    names = (file.relative_to(folder).with_suffix("").as_posix() for file in files)
    return sorted(name for name in names if not name.endswith("/base"))


def find_recipe(given: Path) -> Path:
    """The file of a recipe: itself, or that of a shipped recipe of this name.

    A checkout's own `recipes/` comes first, so that changes to it count. A name that nothing has is
    given back as it is.
    """
    if is_file(given):
        return given
    inside = given.relative_to(FOLDER) if given.parts[:1] == FOLDER.parts else given
    if inside.name and inside.suffix != ".yaml":
        inside = inside.with_name(f"{inside.name}.yaml")
    found = (folder / inside for folder in (FOLDER, shipped_folder()))
    return next((file for file in found if is_file(file)), given)


def find_file(named: Path) -> Path:
    """A file that a recipe names: itself, or the shipped one where it begins with recipes/."""
    if is_file(named) or named.parts[:1] != FOLDER.parts:
        return named
    shipped = shipped_folder() / named.relative_to(FOLDER)
    return shipped if is_file(shipped) else named

"""Why the size of a model is not known, and what makes it known."""

from __future__ import annotations

import re
from pathlib import Path

from wrpo.local_paths import is_folder, looks_local

_TINY_WORLD = re.compile(r"(?P<world>(?:.*/)?tiny-world/seed-(?P<seed>\d+))/\w+")


def unknown_size(model: str, advice: str) -> str:
    """The reason in one line; the same for all models of a tiny world that is not made yet.

    Args:
        model: hub id or folder.
        advice: what helps where the model is not a folder that is missing.
    """
    if not looks_local(model) or is_folder(Path(model).expanduser()):
        return f"size of {model} unknown: {advice}"
    found = _TINY_WORLD.fullmatch(model)
    if found:
        command = f"python -m tiny_world --seed {found['seed']} --out {found['world']}"
        return f"make the world first ({command})"
    return f"there is no folder {model} yet"

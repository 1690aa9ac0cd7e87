"""Which names are paths, and whether such a file or folder is there.

No is the answer also for names that no file can have.
"""

from __future__ import annotations

from pathlib import Path


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that is too long or holds a NUL names none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a folder is there; a name that is too long or holds a NUL names none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def looks_local(model: str | Path) -> bool:
    """Whether the name of a model is a path, there or not, and no `owner/name` of the hub."""
    text = str(model)
    return isinstance(model, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1

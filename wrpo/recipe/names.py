"""Names in a recipe become folders, files and columns, on every file system."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST_NAME = 100
"""Characters; with a prefix and a suffix a file name has room for 255 bytes."""

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Without what leads out of a folder (`/`), hides a file or looks like a flag."""


def refuse_names(names: Iterable[str], *, taken: Iterable[str] = ()) -> None:
    """Refuses names that are no folder of their own everywhere.

    Args:
        taken: other names beside which these must be distinct.

    Raises:
        ValueError: says which name, and why.
    """
    seen = {name.casefold(): name for name in taken}
    for name in names:
        shown = repr(name if len(name) <= LONGEST_NAME else f"{name[:20]}...").replace("'", '"')
        if not re.fullmatch(NAME, name):
            raise ValueError(
                f"{shown} is no name: use letters, digits, dot, dash, underscore, and begin with a "
                "letter or a digit"
            )
        if len(name) > LONGEST_NAME:
            raise ValueError(
                f"{shown} has {len(name)} characters; a name has {LONGEST_NAME} at most"
            )
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise ValueError(
                f'"{other}" and "{name}" differ in case only, and are one folder on some file '
                "systems; rename one"
            )

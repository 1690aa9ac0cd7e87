"""Files of ours: a reader sees the old one or the new one, never half of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wrpo.errors import DataError, MissingInputError

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary neighbour to write; renames it to `path` when the block succeeds.

    An OSError names `path`, so that "no space left" says where.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Removes what killed writers left behind; call it when no writer is left."""
    for partial in folder.glob(f".*{PARTIAL}"):
        partial.unlink(missing_ok=True)


def read_json(path: Path, kind: type[Any], *, way_out: str) -> Any:
    """The JSON value of a file of ours.

    Args:
        kind: the type that the value must have, `dict` or `list`.
        way_out: what to do where the file is damaged; the end of the message.

    Raises:
        OSError: there is none, or it is out of reach.
        DataError: it holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged ({error}); {way_out}") from None
    if not isinstance(value, kind):
        found = type(value).__name__
        raise DataError(f"{path}: damaged (it holds {found}, not {kind.__name__}); {way_out}")
    return value


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a user's file of JSON lines; empty lines do not count.

    Raises:
        MissingInputError: there is no such file.
        DataError: a line is no object.
    """
    if not is_file(path):
        raise MissingInputError(f"no such file: {path}; correct the path")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} line {number}: no JSON: {error}") from None
        if not isinstance(row, dict):
            raise DataError(f"{path} line {number}: is no object; write one JSON object a line")
        rows.append(row)
    return rows


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

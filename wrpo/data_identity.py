"""What a dataset is, for the key of a stage: its name on the hub, or the content of its files."""

from __future__ import annotations

from pathlib import Path

from wrpo.ids import digest
from wrpo.local_paths import is_file, is_folder
from wrpo.model_identity import file_digest, file_identity


def data_identity(path: str) -> str:
    """`name#digest` for a local file or folder; a hub name as it is."""
    local = Path(path)
    if is_file(local):
        return file_identity(local)
    if is_folder(local):
        files = sorted(file for file in local.rglob("*") if file.is_file())
        content = [[file.relative_to(local).as_posix(), file_digest(file)] for file in files]
        return f"{local.name}#{digest(content)}"
    return path

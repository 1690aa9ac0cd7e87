"""What a model is, for the key of a stage: hub id and revision, or the content of a folder."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from wrpo.ids import digest

_EDGE_BYTES = 1 << 20
_RELEVANT = ("*.json", "*.safetensors", "*.jinja", "*.model", "*.txt")


def model_identity(model: str, revision: str | None = None) -> str:
    """`name@revision` for a hub model, `name#digest` for a local folder."""
    folder = Path(model)
    if folder.is_dir():
        return f"{folder.name}#{_folder_digest(folder.resolve())}"
    return f"{model}@{revision or 'main'}"


@cache
def _folder_digest(folder: Path) -> str:
    files = sorted({file for pattern in _RELEVANT for file in folder.glob(pattern)})
    return digest([[file.name, file.stat().st_size, file_digest(file)] for file in files])


def file_digest(path: Path) -> str:
    """Digest of a file's size, first and last MiB: enough to tell checkpoints apart, at any size."""
    size = path.stat().st_size
    content = hashlib.sha256(str(size).encode())
    with path.open("rb") as handle:
        content.update(handle.read(_EDGE_BYTES))
        if size > _EDGE_BYTES:
            handle.seek(max(_EDGE_BYTES, size - _EDGE_BYTES))
            content.update(handle.read())
    return content.hexdigest()[:16]

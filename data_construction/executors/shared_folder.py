"""A folder behind an fsspec URL, through which machines without a common disk exchange files."""

from __future__ import annotations

import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from wrpo.errors import RecipeError, StageError
from wrpo.files import replacing

# Their uploads appear whole or not at all; renaming would copy the object once more.
_WHOLE_UPLOADS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss"}


class SharedFolder:
    """Puts and gets files by their path below `url`; a reader never sees half a file.

    Raises:
        RecipeError: no such protocol, or its package is missing.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise RecipeError(f"executor.shared: {url}: {error}") from error
        self.url = url
        protocol = self._files.protocol
        protocols = {protocol} if isinstance(protocol, str) else set(protocol)
        self._renames = not protocols & _WHOLE_UPLOADS

    def names(self) -> dict[str, int]:
        """All files by their path below the folder, with their sizes in bytes."""
        self._files.invalidate_cache()
        found: dict[str, dict[str, Any]] = self._files.find(self._root, detail=True)
        return {name[len(self._root) :].lstrip("/"): it["size"] for name, it in found.items()}

    def has(self, name: str) -> bool:
        """Whether a file is there now."""
        self._files.invalidate_cache()
        return bool(self._files.exists(f"{self._root}/{name}"))

    def put(self, local: Path, name: str) -> None:
        """Uploads a file."""
        target = f"{self._root}/{name}"
        try:
            self._files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
            if self._renames:
                partial = f"{target}.{uuid.uuid4().hex}.partial"
                self._files.put_file(str(local), partial)
                self._files.mv(partial, target)
            else:
                self._files.put_file(str(local), target)
        except OSError as error:
            raise StageError(f"cannot write {self.url}/{name}: {error}") from error

    def get(self, name: str, local: Path) -> None:
        """Downloads a file, which appears whole or not at all.

        Raises:
            StageError: it is not there, or cannot be read.
        """
        local.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(local) as partial:
                self._files.get_file(f"{self._root}/{name}", str(partial))
        except OSError as error:
            raise StageError(f"cannot read {self.url}/{name}: {error}") from error

    def remove(self, name: str) -> None:
        """Removes a file; one that is not there is as good."""
        with suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{name}")

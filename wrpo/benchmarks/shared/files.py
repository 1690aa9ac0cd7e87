"""The files of judged benchmarks: the user's own copies, or the hub's at run time.

None of them is shipped with this toolkit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wrpo.errors import DataError, MissingInputError


@dataclass(frozen=True)
class HubFile:
    """A file on the hub."""

    repo: str
    kind: str
    path: str

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"https://huggingface.co/{self.kind}s/{self.repo}/resolve/main/{self.path}"


def fetch(hub: HubFile, setting: str, *, given: Path | None) -> Path:
    """The file behind a setting of the recipe: the path that is given, else the hub's copy.

    Raises:
        MissingInputError: it is not there; says where to get it.
    """
    if given is not None:
        if given.is_file():
            return given
        raise MissingInputError(f"{setting}: no file {given}; get it with: {_command(hub)}")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(hub.repo, hub.path, repo_type=hub.kind))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise MissingInputError(
            f"{setting}: {hub.path} of {hub.repo} is needed, which the hub does not give here "
            f"({type(error).__name__}). Get it with: {_command(hub)}\nand name it in the recipe: "
            f"{setting}={Path(hub.path).name}"
        ) from None


def read_records(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON list or of JSON lines.

    Raises:
        DataError: the file is something else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if text.lstrip().startswith("["):
            records = json.loads(text)
        else:
            records = [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: neither a JSON list nor JSON lines ({error})") from None
    if not records or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{path}: holds no JSON objects; is it the right file?")
    return list(records)


def _command(hub: HubFile) -> str:
    return f"curl -LO {hub.url}"

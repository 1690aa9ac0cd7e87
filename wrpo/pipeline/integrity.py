"""Whether a finished folder holds what its manifest says: rows, source, model files.

Each part carries the key of its stage and its own number. The manifest records the rows and a
digest of each part, and a digest of each file of a model. Rows, keys and model files are compared
whenever a stage reads the folder; the digests of parts by `--verify` and by `wrpo doctor`.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wrpo.errors import DataError, raise_if_of_system
from wrpo.ids import digest
from wrpo.pipeline.stage import file_digest
from wrpo.pipeline.tables import WAY_OUT, part_name, parts

VERIFY = "WRPO_VERIFY"
"""Environment variable: digests of parts are compared too."""

MODEL = "model"
"""Folder of a finished model in that of its stage."""

FILES = "files"
"""What the manifest calls the record."""

_MARK = b"wrpo"


def marked(schema: pa.Schema, key: dict[str, Any], part: int) -> pa.Schema:
    """The schema of one part of a stage, which says whose part it is."""
    return schema.with_metadata({_MARK: json.dumps({"key": digest(key), "part": part})})


def record_digests(folder: Path) -> dict[str, dict[str, Any]]:
    """What is in a folder that is about to be finished, by name of the file."""
    found: dict[str, dict[str, Any]] = {
        path.name: {"rows": _footer(path).num_rows, "digest": file_digest(path)}
        for path in parts(folder)
    }
    return found | {name: {"digest": value} for name, value in _model(folder).items()}


def check_folder(folder: Path, manifest: dict[str, Any], *, digests: bool | None = None) -> None:
    """Compares a finished folder with its manifest; one of an older version has less to compare.

    Args:
        digests: compare those of parts too; None: as `$WRPO_VERIFY` says.

    Raises:
        DataError: a part is missing, one too many, of another stage, or has other rows; or a model
            file is missing or changed. Names the file and the way out.
    """
    recorded: dict[str, Any] = manifest.get(FILES, {})
    rows = check_marks(folder, manifest)
    if not recorded and rows and manifest.get("rows") not in (None, sum(rows.values())):
        raise DataError(
            f"{folder}: its parts hold {sum(rows.values())} rows, and its manifest says "
            f"{manifest['rows']}; delete the folder and run the stage again"
        )
    digests = bool(os.environ.get(VERIFY)) if digests is None else digests
    for name in [name for name in recorded if name.startswith("part-")]:
        path, expected = folder / name, recorded[name]
        if name not in rows:
            raise DataError(f"{path}: is gone; run the stage again, it makes only what is missing")
        if rows[name] != expected["rows"]:
            raise DataError(
                f"{path}: holds {rows[name]} rows, and the manifest says {expected['rows']}; "
                f"{WAY_OUT}"
            )
        if digests and file_digest(path) != expected["digest"]:
            raise DataError(f"{path}: was changed after the stage had finished; {WAY_OUT}")
    _check_model(folder, recorded)


def check_marks(folder: Path, manifest: dict[str, Any]) -> dict[str, int]:
    """Finds parts of another stage, of other settings, or under another number; rows by part.

    Raises:
        DataError: there is one, or a part is not readable. Names it and the way out.
    """
    rows: dict[str, int] = {}
    count = manifest.get("parts")
    numbered = {part_name(part) for part in range(count)} if count is not None else None
    for path in parts(folder):
        if numbered is not None and path.name not in numbered:
            raise DataError(
                f"{path}: the stage has {count} parts, and this is none of them; delete this file"
            )
        footer = _footer(path)
        rows[path.name] = footer.num_rows
        mark = (footer.metadata or {}).get(_MARK)
        if mark is None:  # of an older version
            continue
        said = json.loads(mark)
        if said["key"] != digest(manifest["key"]) or part_name(said["part"]) != path.name:
            raise DataError(
                f"{path}: is part {said['part']} of another stage, or of other settings; {WAY_OUT}"
                if said["key"] != digest(manifest["key"])
                else f"{path}: is a copy of {part_name(said['part'])}; {WAY_OUT}"
            )
    return rows


def _check_model(folder: Path, recorded: dict[str, Any]) -> None:
    expected = {name: entry["digest"] for name, entry in recorded.items() if "/" in name}
    if not expected:
        return
    found = _model(folder)
    for name in sorted(expected):
        if found.get(name) != expected[name]:
            what = "was changed after the model was saved" if name in found else "is gone"
            raise DataError(
                f"{folder / name}: {what}; put the file back, or delete the folder {folder} and "
                "run the stage again"
            )


def _model(folder: Path) -> dict[str, str]:
    """Digests of the files of its model; texts for readers, such as README.md, may be edited."""
    files = sorted(path for path in (folder / MODEL).rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): _digest(path, path.stat().st_mtime_ns)
        for path in files
        if path.suffix != ".md"
    }


@lru_cache(maxsize=4096)
def _digest(path: Path, changed_ns: int) -> str:
    """Read once, as several stages of a process ask for it."""
    return file_digest(path)


def _footer(path: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        raise_if_of_system(error, path)
        raise DataError(f"{path}: not readable as parquet ({error}); {WAY_OUT}") from None

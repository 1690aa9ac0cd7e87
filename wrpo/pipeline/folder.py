"""The output of one stage: a folder of parquet parts and a manifest that is complete or not.

A part is written under a temporary name and renamed; the manifest's `complete` is the last write.
So a killed stage loses at most the parts it was working on, and a second start does the rest.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import logging
import shlex
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from wrpo.errors import DataError, StageError
from wrpo.files import read_json, remove_partials, replacing
from wrpo.ids import digest
from wrpo.pipeline.integrity import FILES, check_marks, marked, record_digests
from wrpo.pipeline.tables import (
    DROPPED,
    Row,
    part_name,
    parts,
    read_parquet,
    write_parquet,
)

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
DROPPED_FILE = "dropped.parquet"
FINISHED_ROWS = "rows"
ROWS_PER_PART = 8192
_FIELDS: dict[str, type] = {"key": dict, "complete": bool}
"""What every manifest has."""

_PACKAGES = ("wrpo", "torch", "transformers", "trl", "vllm", "datasets", "accelerate", "lm_eval")


class PartWriter:
    """Writes parts into a folder that some process has claimed; it may travel to others.

    Args:
        path: the folder.
        key: everything that decides the result, as a readable JSON-like mapping.
    """

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self.path = path
        self.key: dict[str, Any] = json.loads(json.dumps(key))

    def write_part(
        self, part: int, rows: list[Row], schema: pa.Schema, *, dropped: list[Row] | None = None
    ) -> None:
        """Writes one part; its dropped rows go first, so that the part marks both as done."""
        dropped_path = self.path / dropped_name(part)
        if dropped:
            write_parquet(dropped_path, dropped, DROPPED)
        else:
            dropped_path.unlink(missing_ok=True)
        write_parquet(self.path / part_name(part), rows, marked(schema, self.key, part))


class StageFolder(PartWriter):
    """One stage's folder under a key; stages open theirs with `wrpo.pipeline.parts.open_stage`."""

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        super().__init__(path, key)
        self._started = time.monotonic()

    def open(self, *, parts: int | None = None) -> bool:
        """Claims the folder for this key; True when the stage is complete already.

        Args:
            parts: number of part files the stage will have; None for stages without parts.

        Raises:
            StageError: the folder was made with another key.
        """
        if self._is_complete(read_manifest(self.path)):
            return True
        self.path.mkdir(parents=True, exist_ok=True)
        with self._alone():
            manifest = read_manifest(self.path)
            if self._is_complete(manifest):
                return True
            if manifest is None:
                self._write_manifest({"complete": False, "parts": parts})
            elif FINISHED_ROWS in manifest:
                self._begin_again(manifest["parts"])
        return False

    def _is_complete(self, manifest: dict[str, Any] | None) -> bool:
        if manifest is None:
            return False
        self._refuse_other_key(manifest)
        return bool(manifest["complete"])

    def _begin_again(self, parts: int) -> None:
        """A finished stage has lost parts; what the others dropped is kept beside them."""
        logger.warning("%s: parts of a finished stage are gone; making them again", self.path)
        before = self.path / DROPPED_FILE
        if before.exists():
            before.replace(self.path / "dropped-before.parquet")
        self._write_manifest({"complete": False, "parts": parts})

    def check_parts(self) -> None:
        """Finds parts of other settings or under another number, before the stage goes on.

        Raises:
            DataError: there is one, or a part is not readable.
        """
        check_marks(self.path, read_manifest(self.path) or {"key": self.key})

    def done_parts(self) -> set[int]:
        """Numbers of the parts that are there."""
        return {int(path.stem.removeprefix("part-")) for path in parts(self.path)}

    def dropped_rows(self) -> list[Row]:
        """What the parts dropped, each row once, while the stage is not complete."""
        files = sorted(self.path.glob("dropped-*.parquet"))
        rows = (row for path in files for row in _dropped_in(path))
        return list({tuple(row.values()): row for row in rows}.values())

    def dropped_of(self, part: int) -> list[Row]:
        """What one part dropped, while the stage is not complete."""
        return _dropped_in(self.path / dropped_name(part))

    def forget_part(self, part: int) -> None:
        """Removes a part and what it dropped, so that it is made again."""
        (self.path / part_name(part)).unlink(missing_ok=True)
        (self.path / dropped_name(part)).unlink(missing_ok=True)

    def write_table(
        self, rows: list[Row], schema: pa.Schema, *, dropped: list[Row] | None = None
    ) -> int:
        """Writes a table that fits in memory as parts; how many these are."""
        starts = range(0, max(1, len(rows)), ROWS_PER_PART)  # no rows: one part, which has columns
        for part, start in enumerate(starts):
            chunk = rows[start : start + ROWS_PER_PART]
            self.write_part(part, chunk, schema, dropped=None if part else dropped)
        return len(starts)

    def finish_parts(self, expected: int, **facts: Any) -> bool:
        """Completes the manifest once all parts are there; False while some are missing."""
        if self.done_parts() != set(range(expected)):
            return False
        with self._alone():
            manifest = read_manifest(self.path)
            if not (manifest and manifest["complete"]):
                self._gather(expected, facts)
        return True

    def _gather(self, expected: int, facts: dict[str, Any]) -> None:
        dropped = self.dropped_rows()
        write_parquet(self.path / DROPPED_FILE, dropped, DROPPED)
        files = record_digests(self.path)
        self._finish(
            files,
            **{FINISHED_ROWS: sum(entry.get("rows", 0) for entry in files.values())},
            dropped=len(dropped),
            dropped_reasons=dict(Counter(row["reason"] for row in dropped)),
            parts=expected,
            **facts,
        )
        for path in self.path.glob("dropped-*.parquet"):
            path.unlink(missing_ok=True)
        remove_partials(self.path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Waits while another shard claims the folder or completes it."""
        with (self.path / ".lock-finish").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def finish(self, **facts: Any) -> None:
        """Writes the complete manifest; `facts` are counts and measurements worth keeping."""
        self._finish(record_digests(self.path), **facts)

    def _finish(self, files: dict[str, dict[str, Any]], **facts: Any) -> None:
        self._write_manifest({"complete": True, **facts, **({FILES: files} if files else {})})

    @contextmanager
    def lock(self, name: str = "all") -> Iterator[None]:
        """Keeps a second process from doing the same work; a killed owner frees it by itself.

        Raises:
            StageError: another process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / f".lock-{name}").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StageError(
                    f"{self.path}: another process is writing this stage; wait for it, or stop it"
                ) from None
            yield

    def release(self) -> None:
        """Gives a folder up in which nothing was made, so that other settings can claim it.

        What was dropped stays until then, for reading.
        """
        made = [path.name for path in self.path.iterdir() if not _is_bookkeeping(path.name)]
        if not made:
            (self.path / MANIFEST).unlink(missing_ok=True)

    def _refuse_other_key(self, manifest: dict[str, Any]) -> None:
        differences = key_differences(manifest["key"], self.key)
        if differences:
            state = "finished" if manifest["complete"] else "begun"
            raise StageError(
                f"{self.path} was {state} with other settings (there -> now):\n"
                + "\n".join(f"  {line}" for line in differences)
                + "\nTo keep it, give this run another name: run=NAME (with reuse=OLD-NAME to take "
                "over the stages that stay equal).\nTo replace it, delete the folder: rm -r "
                + shlex.quote(str(self.path))
            )

    def _write_manifest(self, facts: dict[str, Any]) -> None:
        manifest = {
            "stage": self.path.name,
            **facts,
            "key": self.key,
            "key_digest": digest(self.key),
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "versions": _versions(),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._started, 1),
        }
        with replacing(self.path / MANIFEST) as partial:
            text = json.dumps(manifest, indent=1, ensure_ascii=False)
            partial.write_text(text, encoding="utf-8")


def _is_bookkeeping(name: str) -> bool:
    return name.startswith((".", "dropped")) or name == MANIFEST


def _dropped_in(path: Path) -> list[Row]:
    """[] where the part dropped nothing, or another shard has gathered it meanwhile."""
    try:
        return read_parquet(path, DROPPED)
    except DataError:
        if path.exists():
            raise
        return []


def dropped_name(part: int) -> str:
    """File name of the dropped rows of one part, until the stage is complete."""
    return f"dropped-{part:05d}.parquet"


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a stage folder, or None where there is none.

    It is not `complete` where parts that it counts are gone, whoever removed them.

    Raises:
        DataError: the file is damaged.
    """
    way_out = "delete the folder and run the stage again"
    try:
        manifest: dict[str, Any] = read_json(folder / MANIFEST, dict, way_out=way_out)
    except FileNotFoundError:
        return None
    for name, kind in _FIELDS.items():
        if not isinstance(manifest.get(name), kind):
            raise DataError(
                f"{folder / MANIFEST}: damaged (its {name} is {manifest.get(name)!r}); {way_out}"
            )
    if len(parts(folder)) < (manifest.get("parts") or 0):
        manifest["complete"] = False
    return manifest


def key_differences(there: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """The leaves that differ between two keys, as `path: there -> now`."""
    lines = []
    for name in sorted(set(there) | set(now)):
        old, new = there.get(name, "(absent)"), now.get(name, "(absent)")
        if isinstance(old, dict) and isinstance(new, dict):
            lines += key_differences(old, new, f"{prefix}{name}.")
        elif old != new:
            lines.append(f"{prefix}{name}: {old!r} -> {new!r}")
    return lines


@cache
def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions

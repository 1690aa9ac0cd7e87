"""lm-eval's command reads 14,000 files of tasks at each start: here once per test run."""

from __future__ import annotations

import fcntl
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def keep_task_index(folder: Path) -> None:
    """From now on lm-eval's own tasks are read once and kept in the folder, for all its forks."""
    from lm_eval.tasks import _index

    read = _index.TaskIndex.build
    own = Path(_index.__file__).parent
    kept = folder / "lm-eval-tasks"

    def build(paths: Iterable[Path], **options: Any) -> dict[str, Any]:
        folders = list(paths)
        if folders[:1] != [own] or options:
            return read(folders, **options)
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                kept.write_bytes(pickle.dumps(read([own])))
        found: dict[str, Any] = pickle.loads(kept.read_bytes())
        return {**found, **read(folders[1:])}

    _index.TaskIndex.build = staticmethod(build)

"""What identifies the benchmarks of an evaluation: suites, and the files of the tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wrpo.ids import digest
from wrpo.model_identity import file_digest
from wrpo.recipe.eval_sections import Eval
from wrpo.recipe.suite import OWN_TASKS, evaluated_tasks, own_tasks, suite_identity


def task_settings(settings: Eval) -> dict[str, Any]:
    """The part of an evaluation's key that comes from files; what is not used stays out of it.

    Raises:
        RecipeError: a suite is not there, or says something wrong.
    """
    found: dict[str, Any] = {}
    if settings.include_path is not None:
        found["tasks_folder"] = _folder_identity(settings.include_path)
    if settings.suites:
        found["suite"] = suite_identity(settings)
    if own_tasks(evaluated_tasks(settings)):
        found["own_tasks"] = digest(_folder_identity(OWN_TASKS))
    if settings.sandbox != "bubblewrap":
        found["sandbox"] = settings.sandbox
    return found


def _folder_identity(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".yaml", ".py", ".jsonl"))
    return {str(file.relative_to(folder)): file_digest(file) for file in files}

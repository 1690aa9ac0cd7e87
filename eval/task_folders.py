"""The folders of task files that lm-eval does not ship."""

from __future__ import annotations

import re
from pathlib import Path

from wrpo.errors import MissingInputError
from wrpo.recipe.eval_sections import Eval
from wrpo.recipe.suite import OWN_TASKS, evaluated_tasks, own_tasks

_NAME = re.compile(r"""^(?:task|group):\s*["']?([^\s"'#]+)""", re.M)


def task_folders(settings: Eval) -> list[Path]:
    """The toolkit's folder where it is used, then that of the recipe; later ones win.

    Raises:
        MissingInputError: the recipe's folder is not there.
    """
    folder = settings.include_path
    if folder is not None and not folder.is_dir():
        raise MissingInputError(
            f"eval.include_path: no folder {folder}; correct the path or make the folder"
        )
    own = [OWN_TASKS] if own_tasks(evaluated_tasks(settings)) else []
    return own if folder is None else [*own, folder]


def tasks_by_folder(settings: Eval) -> dict[Path | None, list[str]]:
    """The recipe's tasks by the one folder that `--include_path` needs for them.

    Raises:
        MissingInputError: the recipe's folder is not there.
    """
    folders: dict[Path | None, list[str]] = {}
    left = evaluated_tasks(settings)
    for folder in reversed(task_folders(settings)):
        known = _names_in(folder)
        # Beside the toolkit's folder, lm-eval's own tasks are known too.
        here = [name for name in left if name in known or folder == OWN_TASKS]
        if here:
            folders[folder] = here
        left = [name for name in left if name not in here]
    if left:
        folders[None] = left
    return folders


def _names_in(folder: Path) -> set[str]:
    """Tasks and groups of a folder; their files hold tags that plain YAML does not know."""
    files = folder.rglob("*.yaml")
    return {name for path in files for name in _NAME.findall(path.read_text("utf-8"))}

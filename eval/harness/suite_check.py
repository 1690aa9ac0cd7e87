"""Holds what a suite states against the tasks that lm-eval loaded."""

from __future__ import annotations

import logging
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrpo.errors import MissingInputError, RecipeError
from wrpo.recipe.evaluation import Eval
from wrpo.recipe.suite import OWN_TASKS, LMEvalBenchmark, Suite, evaluated_tasks, own_tasks

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks.manager import TaskDict

logger = logging.getLogger(__name__)

DEFAULT_MAX_GEN_TOKENS = 256
"""What lm-eval's models generate where a task does not say."""


def check_suites(suites: list[Suite], loaded: dict[str, TaskDict]) -> None:
    """Refuses tasks that are not what the suites say.

    Args:
        loaded: what lm-eval loaded, by the name of the task or group.

    Raises:
        RecipeError: shots, decoding, version, metric or filter differ; lists all differences.
    """
    installed = version("lm-eval")
    problems = []
    for suite in suites:
        for name, entry in suite.lm_eval().items():
            if entry.version != installed:
                logger.warning(
                    "suite %s: %s is written for lm-eval %s, installed is %s",
                    *(suite.suite, name, entry.version, installed),
                )
            for task, found in loaded[entry.task]["tasks"].items():
                for problem in suite_differences(entry, found):
                    problems.append(f"suite {suite.suite}: {name}: {task} {problem}")
            _count_documents(suite, name, entry, loaded[entry.task])
    if problems:
        raise RecipeError(
            "\n".join(problems) + "\nThe suite says what the numbers mean, so nothing was run. "
            f"Installed is lm-eval {installed}; correct the suite in a file of your own, or write "
            "a task file that includes the task and says what the suite says (docs/evaluation.md)"
        )


def suite_differences(entry: LMEvalBenchmark, task: ConfigurableTask) -> list[str]:
    """What the task has and the entry does not say; one line each."""
    found = []
    shots = task.config.num_fewshot or 0
    if shots != entry.shots:
        found.append(f"has {shots} shots, the suite says {entry.shots}")
    if task.OUTPUT_TYPE == "generate_until":
        there = _normalized(dict(task.config.generation_kwargs or {}))
        stated = _normalized(entry.decoding)
        found += [
            f"generates with {key} {there.get(key)!r}, the suite says {stated.get(key)!r}"
            for key in sorted(there.keys() | stated.keys())
            if there.get(key) != stated.get(key)
        ]
    if entry.task_version is not None and _plain(task.VERSION) != _plain(entry.task_version):
        found.append(f"is version {task.VERSION}, the suite says {entry.task_version}")
    if entry.metric not in task.aggregation():
        known = ", ".join(task.aggregation())
        found.append(f'has no metric "{entry.metric}"; it has: {known}')
    filters = [ensemble.name for ensemble in task._filters]
    if entry.filter not in filters:
        found.append(f'has no filter "{entry.filter}"; it has: {", ".join(filters)}')
    return found


def suite_facts(suites: list[Suite]) -> list[dict[str, Any]]:
    """For results.json: every suite, what its entries state, and why some did not run."""
    return [
        {
            **suite.model_dump(mode="json", include={"suite", "version", "benchmarks"}),
            "not_run": suite.not_by_lm_eval(),
        }
        for suite in suites
    ]


def _plain(version_: float | str) -> str:
    """1 and 1.0 are one version."""
    return str(version_).removesuffix(".0")


def _normalized(kwargs: dict[str, Any]) -> dict[str, Any]:
    from lm_eval.models.utils import normalize_gen_kwargs

    return dict(normalize_gen_kwargs(kwargs, DEFAULT_MAX_GEN_TOKENS))


def _count_documents(suite: Suite, name: str, entry: LMEvalBenchmark, found: TaskDict) -> None:
    if entry.documents is None:
        return
    documents = sum(len(task.eval_docs) for task in found["tasks"].values())
    if documents != entry.documents:
        logger.warning(
            "suite %s: %s has %d documents, the suite says %d: the data have changed",
            *(suite.suite, name, documents, entry.documents),
        )


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

"""The pipeline as data: every stage of a recipe, its folder, its inputs, its key, its command.

`plan`, `status` and `run` read this list; each stage module asks it for its own entry. A stage's
key is made of the recipe fields that decide its result (`data_stages.py`, `training_stages.py`,
`evaluation_stages.py`) and of the keys of its inputs, so a change anywhere upstream shows.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from wrpo.errors import MissingInputError, RecipeError, StageError
from wrpo.ids import digest
from wrpo.pipeline.data_stages import build_stage, prompts_stage, sample_stage, score_stage
from wrpo.pipeline.evaluation_stages import evaluation_stages
from wrpo.pipeline.folder import StageFolder, key_differences, read_manifest
from wrpo.pipeline.stage import Stage
from wrpo.pipeline.training_stages import (
    logprobs_stage,
    scored_rows,
    sft_stage,
    train_stage,
    training_table,
)
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.resolved import answering_sources

logger = logging.getLogger(__name__)

State = Literal["missing", "partial", "done", "stale"]

_command_line: tuple[list[str], list[str]] = (["--recipe", "RECIPE"], [])


def remember_command_line(recipe: str, overrides: list[str]) -> None:
    """Lets the commands that messages name carry this recipe and these `key=value`."""
    global _command_line
    _command_line = (["--recipe", recipe], list(overrides))


class Pipeline:
    """The stages of one recipe in the order in which they run.

    Args:
        given: finished folders that another process has checked; they are not checked again, as the
            files that their keys are made of need not be on this machine.
    """

    def __init__(self, recipe: Recipe, *, given: Mapping[str, Path] | None = None) -> None:
        self.recipe = recipe
        self._given = given or {}
        self.stages: dict[str, Stage] = {stage.name: stage for stage in _stages(recipe)}

    def __getitem__(self, name: str) -> Stage:
        if name not in self.stages:
            known = ", ".join(self.stages)
            raise RecipeError(f"run {self.recipe.run} has no stage {name}; it has: {known}")
        return self.stages[name]

    def folder(self, name: str) -> Path:
        """Where the stage writes."""
        return self.recipe.runs / self.recipe.run / name

    def key(self, name: str) -> dict[str, Any]:
        """The readable key: own settings, and a digest of the key of each input."""
        stage = self[name]
        inputs = {input_: digest(self.key(input_)) for input_ in stage.inputs}
        return {**stage.settings, "inputs": inputs}

    def state(self, name: str) -> State:
        """missing, partial, done; stale: made with other settings."""
        manifest = read_manifest(self.folder(name))
        if manifest is None:
            return "done" if self._reused(name) else "missing"
        if key_differences(manifest["key"], _plain(self.key(name))):
            return "stale"
        return "done" if manifest["complete"] else "partial"

    def finished(self, name: str) -> Path:
        """The folder of a finished input, in this run or in the one it reuses.

        Raises:
            MissingInputError: it is not there or not complete; names the command that makes it.
            StageError: it was made with other settings than the recipe now says.
        """
        if name in self._given:
            return self._given[name]
        state = self.state(name)
        if state == "done":
            return self._reused(name) or self.folder(name)
        folder = self.folder(name)
        if state == "stale":
            manifest = read_manifest(folder) or {"key": {}}
            lines = key_differences(manifest["key"], _plain(self.key(name)))
            raise StageError(
                f"{folder} was made with other settings (there -> now):\n"
                + "\n".join(f"  {line}" for line in lines)
                + f"\nDelete it and make it again: {self.shell_command(name)}\nor keep it and give "
                "this run another name: run=NAME"
            )
        raise MissingInputError(
            f"needs {folder}, which is {'not finished' if state == 'partial' else 'not there'}; "
            f"make it with: {self.shell_command(name)}"
        )

    def begin(self, name: str, folder: StageFolder, *, parts: int | None = None) -> bool:
        """Claims the folder that a stage writes; False where it is done, here or in `reuse`.

        Args:
            folder: the stage's own, or one beside it for a trial, which is never reused.
            parts: see `StageFolder.open`.

        Raises:
            StageError: the folder was made with other settings.
        """
        whole = folder.path == self.folder(name)
        done = self._reused(name) if whole else None
        if done is None and folder.open(parts=parts):
            done = folder.path
        if done is not None:
            logger.info("%s: complete, nothing to do (%s)", name, done)
        return done is None

    def is_done(self, name: str) -> bool:
        """Whether the stage need not be made.

        Raises:
            StageError: it was made with other settings than the recipe now says.
        """
        if self.state(name) in ("missing", "partial"):
            return False
        self.finished(name)
        return True

    def shell_command(self, name: str) -> str:
        """The command line of a stage as one would type it, for the recipe and overrides in use."""
        recipe, overrides = _command_line
        return shlex.join(["python", "-m", *self.stages[name].command, *recipe, *overrides])

    def _reused(self, name: str) -> Path | None:
        if self.recipe.reuse is None or read_manifest(self.folder(name)) is not None:
            return None
        folder = self.recipe.runs / self.recipe.reuse / name
        manifest = read_manifest(folder)
        if manifest is None or not manifest["complete"]:
            return None
        return folder if manifest["key"] == _plain(self.key(name)) else None


def _plain(value: Any) -> Any:
    """The value as it comes back from JSON, so that keys compare equal to stored ones."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _stages(recipe: Recipe) -> list[Stage]:
    sources = answering_sources(recipe)
    source_scores = tuple(f"score/{name}" for name in sources)
    arms = ["wrpo", *recipe.arms]
    tables = list(dict.fromkeys(training_table(recipe, arm) for arm in arms))
    stages = [prompts_stage(recipe)]
    stages += [sample_stage(recipe, name) for name in sources]
    stages += [score_stage(recipe, name) for name in sources]
    stages += [build_stage(recipe, "sft", ("prompts", *source_scores)), sft_stage(recipe)]
    if "build/triples" in tables:
        stages += [sample_stage(recipe, TARGET), score_stage(recipe, TARGET)]
        inputs = ("prompts", *source_scores, f"score/{TARGET}")
        stages.append(build_stage(recipe, "triples", inputs))
    if "build/pairs" in tables:
        stages.append(build_stage(recipe, "pairs", ("prompts", *source_scores)))
    scored = dict.fromkeys(needed for arm in arms for needed in scored_rows(recipe, arm))
    stages += [logprobs_stage(recipe, model, rows) for model, rows in scored]
    stages += [train_stage(recipe, arm) for arm in arms]
    stages += evaluation_stages(recipe)
    unread = recipe.build.imported.tables().keys() - {"sft", *(t.split("/")[1] for t in tables)}
    if unread:
        raise RecipeError(f"build.imported: no arm trains on {', '.join(sorted(unread))}")
    return _needed(stages) if recipe.build.imported.tables() else stages


def _needed(stages: list[Stage]) -> list[Stage]:
    """Leaves out the prompts, answers and scores that no table is built from."""
    inputs = {stage.name: stage.inputs for stage in stages}
    waiting = [name for name in inputs if name.split("/")[0] not in ("prompts", "sample", "score")]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        needed.add(name)
        waiting += [input_ for input_ in inputs[name] if input_ not in needed]
    return [stage for stage in stages if stage.name in needed]

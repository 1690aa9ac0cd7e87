"""The pipeline as data: every stage of a recipe, its folder, its inputs, its key, its command.

`plan`, `status` and `run` read this list; each command asks it for its own stage, which it then
runs inside `wrpo.pipeline.parts.open_stage`. A stage's key is made of the recipe fields that decide
its result (`data_stages.py`, `training_stages.py`, `evaluation_stages.py`) and of the keys of its
inputs, so a change anywhere upstream shows.

Of a recipe in a later round, the names of the first stand for what that round has in their place
(`wrpo.pipeline.rounds`): its commands say "sample/target" and "sft" in every round.

A pipeline that is made knows names, kinds and inputs. Keys cost more, as models and datasets stand
in them by their content: a key is computed when it is asked for, once, from those of its inputs.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from wrpo.errors import DataError, MissingInputError, RecipeError, StageError
from wrpo.ids import digest
from wrpo.pipeline.data_stages import (
    build_stage,
    built_from,
    consistency_stage,
    explore_stage,
    prompts_stage,
    revise_stage,
    sample_stage,
    score_stage,
)
from wrpo.pipeline.evaluation_stages import evaluation_stages
from wrpo.pipeline.folder import key_differences, read_manifest
from wrpo.pipeline.integrity import check_folder
from wrpo.pipeline.rounds import names_in_round, round_stages
from wrpo.pipeline.stage import Stage, StageKind
from wrpo.pipeline.tables import BUILT
from wrpo.pipeline.training_stages import (
    logit_tables,
    logprobs_stage,
    merge_stage,
    prune_stage,
    scored_rows,
    sft_stage,
    teacher_logits_stage,
    train_stage,
)
from wrpo.recipe import TARGET, Recipe, preference
from wrpo.recipe.prompts import explored_datasets
from wrpo.recipe.resolved import drafting_sources
from wrpo.recipe.revise import REVISED
from wrpo.recipe.suite import suite_path

State = Literal["missing", "partial", "done", "stale"]


class Pipeline:
    """The stages of one recipe in the order in which they run.

    Args:
        given: finished folders that another process has checked; they are not checked again, as the
            files that their keys are made of need not be on this machine.

    Raises:
        RecipeError: the recipe's parts do not fit together, or a suite is not there.
    """

    def __init__(self, recipe: Recipe, *, given: Mapping[str, Path] | None = None) -> None:
        self.recipe = recipe
        self._given = given or {}
        self._keys: dict[str, dict[str, Any]] = {}
        self._making = {stage.name: stage for stage in _making(recipe)}
        self._stands_for = names_in_round(recipe, recipe.round)
        if given is None:
            for suite in recipe.eval.suites:
                suite_path(suite)

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """All stages by name. The suites say what is evaluated, which are read here.

        Raises:
            RecipeError: a suite says something wrong.
        """
        return self._making | {stage.name: stage for stage in evaluation_stages(self.recipe)}

    def of_kind(self, *kinds: StageKind) -> list[Stage]:
        """The stages of some kinds."""
        return [stage for stage in self.stages.values() if stage.kind in kinds]

    def __contains__(self, name: str) -> bool:
        return self._name(name) in self.stages

    def __getitem__(self, name: str) -> Stage:
        stage = self._stage(self._name(name))
        if stage.round == 1 or stage.round != self.recipe.round:
            return stage
        seen = {name: first for first, name in self._stands_for.items()}
        return replace(stage, inputs=tuple(seen.get(name, name) for name in stage.inputs))

    def _name(self, name: str) -> str:
        """The name in the run of what the round calls so."""
        return self._stands_for.get(name, name)

    def _stage(self, name: str) -> Stage:
        if name in self._making:
            return self._making[name]
        if name not in self.stages:
            known = ", ".join(self.stages)
            raise RecipeError(f"run {self.recipe.run} has no stage {name}; it has: {known}")
        return self.stages[name]

    def folder(self, name: str, *, trial: int | None = None) -> Path:
        """Where the stage writes; beside it, a trial with so many prompts."""
        folder = self.recipe.runs / self.recipe.run / self._name(name)
        return folder if trial is None else folder.with_name(f"{folder.name}.limit-{trial}")

    def key(self, name: str) -> dict[str, Any]:
        """The readable key, as JSON gives it back: own settings, and a digest of each input's key.

        Reads the files that this stage and those above it name, and no others.
        """
        return self._key(self._name(name))

    def _key(self, name: str) -> dict[str, Any]:
        if name not in self._keys:
            stage = self._stage(name)
            inputs = {input_: digest(self._key(input_)) for input_ in stage.inputs}
            self._keys[name] = _plain({**stage.settings(), "inputs": inputs})
        return self._keys[name]

    def state(self, name: str) -> State:
        """missing, partial, done; stale: made with other settings."""
        manifest = read_manifest(self.folder(name))
        if manifest is None:
            return "done" if self.reused(name) else "missing"
        if key_differences(manifest["key"], self.key(name)):
            return "stale"
        return "done" if manifest["complete"] else "partial"

    def finished(self, name: str) -> Path:
        """The folder of a finished input, in this run or in the one it reuses.

        Raises:
            MissingInputError: it is not there or not complete; names the command that makes it.
            DataError: it holds something else than its manifest says; names file and command.
            StageError: it was made with other settings than the recipe now says.
        """
        if name in self._given:
            return self._given[name]
        state = self.state(name)
        if state == "done":
            return self._checked(name, self.reused(name) or self.folder(name))
        folder = self.folder(name)
        if state == "stale":
            manifest = read_manifest(folder) or {"key": {}}
            lines = key_differences(manifest["key"], self.key(name))
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

    def _checked(self, name: str, folder: Path) -> Path:
        try:
            check_folder(folder, read_manifest(folder) or {"key": {}})
        except DataError as error:
            raise DataError(f"{error}. Command: {self.shell_command(name)}") from None
        return folder

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
        return shlex.join(["python", "-m", *self[name].command, *self.recipe.command_line])

    def reused(self, name: str) -> Path | None:
        """The finished folder in the run named by `reuse`, where this run has none of its own."""
        if self.recipe.reuse is None or read_manifest(self.folder(name)) is not None:
            return None
        folder = self.recipe.runs / self.recipe.reuse / self._name(name)
        manifest = read_manifest(folder)
        if manifest is None or not manifest["complete"]:
            return None
        return folder if manifest["key"] == self.key(name) else None


def _plain(value: Any) -> Any:
    """The value as it comes back from JSON, so that keys compare equal to stored ones."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _making(recipe: Recipe) -> list[Stage]:
    """The stages that make data and models."""
    sources = drafting_sources(recipe)
    arms = ["wrpo", *recipe.arms]
    tables = dict.fromkeys(preference(recipe, arm).data for arm in arms)
    stages = [explore_stage(recipe, name) for name in explored_datasets(recipe.prompts)]
    stages.append(prompts_stage(recipe))
    stages += [sample_stage(recipe, name) for name in sources]
    stages += [score_stage(recipe, name) for name in sources]
    examined = [consistency_stage(recipe)] if recipe.consistency else []
    pruned = [prune_stage(recipe)] if recipe.prune else []
    stages += [build_stage(recipe, "sft"), *examined, *pruned, sft_stage(recipe)]
    if TARGET in recipe.revise or any(TARGET in built_from(recipe, table) for table in tables):
        stages += [sample_stage(recipe, TARGET), score_stage(recipe, TARGET)]
    stages += [build_stage(recipe, table) for table in BUILT if table in tables]
    scored = dict.fromkeys(needed for arm in arms for needed in scored_rows(recipe, arm))
    stages += [logprobs_stage(recipe, model, rows) for model, rows in scored]
    distributions = dict.fromkeys(place for arm in arms for place in logit_tables(recipe, arm))
    stages += [teacher_logits_stage(recipe, place) for place in distributions]
    stages += [train_stage(recipe, arm) for arm in arms]
    for name in recipe.revise:
        stages += [revise_stage(recipe, name), score_stage(recipe, f"{REVISED}{name}")]
    stages += round_stages(recipe, {stage.name: stage for stage in stages})
    stages += [merge_stage(recipe, name) for name in recipe.merges]
    imported = recipe.build.imported.tables().keys()
    if unread := imported - {"sft", *tables}:
        raise RecipeError(f"build.imported: no arm trains on {', '.join(sorted(unread))}")
    if imported:
        stages = _needed(stages)
    return _in_order(stages) if recipe.revise else stages


def _in_order(stages: list[Stage]) -> list[Stage]:
    """Inputs first; revised responses come behind scores, and perhaps behind a trained reviser."""
    waiting = {stage.name: stage for stage in stages}
    ordered: list[Stage] = []
    while waiting:
        free = [s for s in waiting.values() if not any(name in waiting for name in s.inputs)]
        if not free:
            raise RecipeError(
                f"stages wait for each other: {', '.join(waiting)}. Does a reviser train on what "
                "it revises? revise.NAME.by an arm must not have NAME under rows_of"
            )
        ordered.append(free[0])
        del waiting[free[0].name]
    return ordered


_MADE_OF_PROMPTS = ("explore", "prompts", "sample", "score", "revise")


def _needed(stages: list[Stage]) -> list[Stage]:
    """Leaves out the prompts, responses and scores that no table is built from."""
    inputs = {stage.name: stage.inputs for stage in stages}
    waiting = [stage.name for stage in stages if stage.kind not in _MADE_OF_PROMPTS]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        needed.add(name)
        waiting += [input_ for input_ in inputs[name] if input_ not in needed]
    return [stage for stage in stages if stage.name in needed]

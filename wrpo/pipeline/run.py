"""Runs the stages of a recipe that are not done: each in a process of its own, inputs first.

With several jobs, stages that do not wait for each other run at once; their output goes to
RUN/logs instead of the terminal. Processes are new, or forks of one that has imported everything.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from wrpo.errors import RecipeError, StageError
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.stage import Stage, StageKind
from wrpo.pipeline.stage_process import StageProcess, StartFork, StartStage, start_new
from wrpo.recipe import Recipe, save_recipe
from wrpo.recipe.revise import REVISED

logger = logging.getLogger(__name__)

LOGS = "logs"
TAIL_LINES = 15
_TOGETHER: tuple[StageKind, ...] = ("score", "eval", "responses", "judge")
"""Kinds of stages that share a start-up where all their arguments but the last are equal."""


@dataclass(frozen=True)
class Job:
    """One process: a stage, or neighbouring stages that share a costly start-up.

    Attributes:
        name: how messages and log files call it.
        stages: names of what it makes.
        command: module and flags, without recipe and overrides.
        inputs: names of what it reads and does not make.
    """

    name: str
    stages: tuple[str, ...]
    command: tuple[str, ...]
    inputs: frozenset[str]


def run_pipeline(recipe: Recipe, *, jobs: int = 1, preload: bool = False) -> None:
    """Runs what is missing.

    Args:
        jobs: how many stages may run at once; more than one suits CPUs or several GPUs.
        preload: stages are forks of one process that has imported what they need; for CPUs.

    Raises:
        RecipeError: `jobs` is below 1.
        StageError: a finished stage was made with other settings, or a stage failed.
    """
    if jobs < 1:
        raise RecipeError(f"--jobs is {jobs}; at least one stage has to run at a time")
    pipeline = Pipeline(recipe)
    folder = recipe.runs / recipe.run
    save_recipe(recipe, folder / "recipe.yaml")
    waiting = _jobs(pipeline, _unfinished(pipeline))
    open_stages = {stage for job in waiting for stage in job.stages}
    started = time.monotonic()
    start: StartStage = StartFork() if preload else start_new
    running: dict[StageProcess, Job] = {}
    try:
        while waiting or running:
            for job in [job for job in waiting if not job.inputs & open_stages]:
                if len(running) < jobs:
                    waiting.remove(job)
                    logger.info("%4.0f s  %s", time.monotonic() - started, ", ".join(job.stages))
                    running[start(*_command(job, recipe, folder, quiet=jobs > 1))] = job
            process = _first_finished(running)
            job = running.pop(process)
            if process.returncode:
                raise StageError(_failure(job, process.returncode, folder, quiet=jobs > 1))
            open_stages -= set(job.stages)
    finally:
        for process in running:
            process.terminate()
            process.wait()
    logger.info("%4.0f s  run %s is done", time.monotonic() - started, recipe.run)


def _unfinished(pipeline: Pipeline) -> list[str]:
    """Stages to run; a report made with other settings is simply made again."""
    names = []
    for name, stage in pipeline.stages.items():
        state = pipeline.state(name)
        if state == "stale" and stage.kind != "report":
            pipeline.finished(name)
        if state != "done":
            names.append(name)
    return names


def _jobs(pipeline: Pipeline, names: list[str]) -> list[Job]:
    groups: list[list[Stage]] = []
    for stage in map(pipeline.__getitem__, names):
        group = _group(stage)
        if group and groups and _group(groups[-1][0]) == group:
            groups[-1].append(stage)
        else:
            groups.append([stage])
    return [_job(group) for group in groups]


def _group(stage: Stage) -> list[str] | None:
    """Equal for neighbouring stages that one process can do; None for all others."""
    revised = stage.args.get("source", "").startswith(REVISED)  # which `all` leaves out
    together = stage.kind in _TOGETHER and stage.round == 1 and not revised
    return [stage.kind, *stage.args.values()][:-1] if together else None


def _job(stages: list[Stage]) -> Job:
    first, names = stages[0], tuple(stage.name for stage in stages)
    inputs = frozenset(name for stage in stages for name in stage.inputs if name not in names)
    group = _group(first)
    if group is None or len(stages) == 1:
        return Job(first.name, names, first.command, inputs)
    return Job("/".join(group), names, (*first.command[:-1], "all"), inputs)


def _command(
    job: Job, recipe: Recipe, folder: Path, *, quiet: bool
) -> tuple[list[str], Path | None]:
    """Module and arguments, and the file for the output."""
    command = [*job.command, *recipe.command_line]
    if not quiet:
        return command, None
    log = _log_file(job, folder)
    log.parent.mkdir(parents=True, exist_ok=True)
    return command, log


def _first_finished(running: Collection[StageProcess]) -> StageProcess:
    while True:
        for process in running:
            if process.poll() is not None:
                return process
        time.sleep(0.05)


def _failure(job: Job, code: int, folder: Path, *, quiet: bool) -> str:
    message = f"{job.name} failed (exit code {code}); fix it and run this again"
    if not quiet:
        return message
    log = _log_file(job, folder)
    lines = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines()
    tail = [line for line in lines if line.strip()][-TAIL_LINES:]
    return f"{message}. The end of {log}:{os.linesep}" + os.linesep.join(tail)


def _log_file(job: Job, folder: Path) -> Path:
    return folder / LOGS / f"{job.name.replace('/', '-')}.log"

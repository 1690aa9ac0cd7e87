"""The pipeline as a whole.

python -m wrpo plan   --recipe R   every stage with its state and its command
python -m wrpo status --recipe R   how far each stage is
python -m wrpo run    --recipe R   runs what is missing, in order; stops at the first failure
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time

from wrpo.cli import USER_ERROR, parse_stage, run_main, stage_parser
from wrpo.errors import StageError
from wrpo.recipe import Recipe, save_recipe
from wrpo.stage_folder import read_manifest
from wrpo.stages import Pipeline
from wrpo.tables import parts

logger = logging.getLogger(__name__)


def plan(recipe: Recipe, args: argparse.Namespace) -> None:
    """Prints every stage in order: state, folder, command."""
    pipeline = Pipeline(recipe)
    lines = [f"run {recipe.run}: {len(pipeline.stages)} stages in {recipe.runs / recipe.run}", ""]
    overrides = [f" {item}" for item in args.overrides]
    for name in pipeline.stages:
        command = pipeline.shell_command(name) + "".join(overrides)
        lines.append(f"{pipeline.state(name):8} {name:20} {command}")
    sys.stdout.write("\n".join(lines) + "\n")


def status(recipe: Recipe) -> None:
    """Prints how far each stage is: parts, rows, dropped rows, seconds."""
    pipeline = Pipeline(recipe)
    lines = [f"{'state':8} {'stage':20} {'parts':>9} {'rows':>8} {'dropped':>8} {'seconds':>8}"]
    for name in pipeline.stages:
        folder = pipeline.folder(name)
        manifest = read_manifest(folder) or {}
        done, total = len(parts(folder)), manifest.get("parts")
        progress = f"{done}/{total}" if total else "-"
        rows, lost = manifest.get("rows", "-"), manifest.get("dropped", "-")
        seconds = manifest.get("seconds", "-") if manifest.get("complete") else "-"
        state = pipeline.state(name)
        lines.append(f"{state:8} {name:20} {progress:>9} {rows:>8} {lost:>8} {seconds:>8}")
    sys.stdout.write("\n".join(lines) + "\n")


def run(recipe: Recipe, args: argparse.Namespace) -> None:
    """Runs each stage that is not done as its own process, in order.

    Raises:
        StageError: a finished stage was made with other settings, or a stage failed.
    """
    pipeline = Pipeline(recipe)
    save_recipe(recipe, recipe.runs / recipe.run / "recipe.yaml")
    missing = [name for name in pipeline.stages if pipeline.state(name) not in ("done", "stale")]
    stale = [name for name in pipeline.stages if pipeline.state(name) == "stale"]
    for name in stale:
        if name != "report":
            pipeline.finished(name)
    started = time.monotonic()
    for group in _groups(missing + [name for name in stale if name == "report"]):
        logger.info("--- %s (%.0f s)", ", ".join(group), time.monotonic() - started)
        command = [sys.executable, "-m", *_group_command(pipeline, group)]
        command += ["--recipe", str(args.recipe), *args.overrides]
        code = subprocess.run(command).returncode
        if code:
            raise StageError(f"{group[0]} failed (exit code {code}); mend it and run this again")
    logger.info("run %s: done after %.0f s", recipe.run, time.monotonic() - started)


def _groups(names: list[str]) -> list[list[str]]:
    """Neighbouring stages that one process does together, because start-up costs more than work."""
    groups: list[list[str]] = []
    for name in names:
        kind = name.split("/")[0]
        together = kind in ("score", "eval") and groups and groups[-1][0].split("/")[0] == kind
        if together:
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups


def _group_command(pipeline: Pipeline, group: list[str]) -> list[str]:
    if len(group) == 1:
        return list(pipeline[group[0]].command)
    module, flag, _ = pipeline[group[0]].command
    return [module, flag, "all"]


def console() -> None:
    """Entry point of the `wrpo` command."""
    run_main(main)


def main() -> None:
    commands = ("plan", "status", "run")
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.stdout.write(f"{__doc__}\n")
        wants_help = len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help")
        sys.exit(0 if wants_help else USER_ERROR)
    command = sys.argv.pop(1)
    args, recipe = parse_stage(stage_parser(__doc__))
    {"plan": lambda: plan(recipe, args), "status": lambda: status(recipe)}.get(
        command, lambda: run(recipe, args)
    )()


if __name__ == "__main__":
    console()

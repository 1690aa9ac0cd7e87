"""The pipeline as a whole.

python -m wrpo init                writes a first recipe: asks, or takes flags (init --help)
python -m wrpo plan   --recipe R   the tree of stages: state, price, command; --explain, --json
python -m wrpo status --recipe R   how far each stage is; --watch 2 redraws, --json for scripts
python -m wrpo run    --recipe R   runs what is missing; --jobs 2 runs two stages at once
python -m wrpo doctor --recipe R   looks for what would stop the run; --offline: no network
python -m wrpo schema              the recipe's JSON Schema, for editors
python -m wrpo reference           every field of the recipe, as markdown
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections import Counter
from pathlib import Path

from wrpo.cli import USER_ERROR, parse_stage, run_main, stage_parser
from wrpo.display.characters import visible
from wrpo.doctor.checks import CheckContext, finding_text
from wrpo.doctor.doctor import examine
from wrpo.doctor.services import hub_responses
from wrpo.errors import RecipeError
from wrpo.files import replacing
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.run import run_pipeline
from wrpo.pipeline.status import run_status, status_json, status_text, watch
from wrpo.plan.estimate import Estimator
from wrpo.plan.throughput import devices, find_table, read_measured, read_throughput
from wrpo.plan.view import as_json, plan_json, plan_text
from wrpo.recipe import Recipe
from wrpo.recipe.json_schema import editor_schema_text, recipe_reference
from wrpo.recipe.load import check
from wrpo.recipe.yaml_source import parse_yaml
from wrpo.start.answers import add_init_flags, collect_answers
from wrpo.start.held_out import can_hold_out, hold_out
from wrpo.start.recipe_text import recipe_text

COMMANDS = ("init", "plan", "status", "run", "doctor", "schema", "reference")


def plan(recipe: Recipe, args: argparse.Namespace) -> None:
    """Prints the tree of stages with state and price, then the command of each."""
    pipeline = Pipeline(recipe)
    estimator = _estimator(pipeline, args)
    stages = run_status(pipeline)
    prices = [estimator.stage(stage.name, stage) for stage in stages] if estimator else []
    kind = estimator.kind if estimator else None
    if args.json:
        sys.stdout.write(as_json(plan_json(pipeline, stages, prices, kind=kind)))
        return
    lines = plan_text(pipeline, stages, prices, kind=kind, explain=args.explain)
    sys.stdout.write(visible("\n".join(lines)) + "\n")


def _estimator(pipeline: Pipeline, args: argparse.Namespace) -> Estimator | None:
    """None where there is no throughput table.

    Raises:
        RecipeError: the table does not know the kind of GPU that is asked for.
    """
    path = args.throughput or find_table(args.recipe, runs=pipeline.recipe.runs)
    if path is None:
        return None
    table = read_throughput(path)
    kind = args.gpu or table.gpu
    if kind not in table.gpus:
        raise RecipeError(f"--gpu: {path} has no {kind}; it has: {', '.join(table.gpus)}")
    return Estimator(pipeline, table, read_measured(pipeline.recipe.runs), kind=kind)


def status(recipe: Recipe, *, watched_s: float | None, as_json: bool) -> None:
    """Prints how far each stage is, once or until all are done."""
    pipeline = Pipeline(recipe)
    if watched_s is not None and not as_json:
        watch(pipeline, every_s=watched_s)
        return
    stages = run_status(pipeline)
    text = status_json(stages) if as_json else "\n".join(status_text(recipe.run, stages)) + "\n"
    sys.stdout.write(text)


def doctor(recipe: Recipe, args: argparse.Namespace) -> None:
    """Prints findings as they come; exit code 2 where there is a problem."""
    hub = not args.offline and not os.environ.get("HF_HUB_OFFLINE") and hub_responses()
    if not hub:
        os.environ["HF_HUB_OFFLINE"] = "1"
    levels = Counter[str]()
    for finding in examine(CheckContext(recipe, offline=args.offline, hub=hub)):
        levels[finding.level] += 1
        sys.stdout.write(visible(finding_text(finding)) + "\n")
        sys.stdout.flush()
    counts = ", ".join(f"{levels[level]} {level}" for level in ("ok", "warning", "problem"))
    sys.stdout.write(f"\n{counts}\n{_next(recipe, levels['problem'])}\n")
    if levels["problem"]:
        sys.exit(USER_ERROR)


def _next(recipe: Recipe, problems: int) -> str:
    """The one command to type now."""
    command = "doctor" if problems else "run"
    line = shlex.join(["python", "-m", "wrpo", command, *recipe.command_line])
    return visible(f"next: {'mend the problems above, then ' if problems else ''}{line}")


def _refuse_on_gpus() -> None:
    """What has touched a GPU cannot be forked.

    Raises:
        RecipeError: there is one.
    """
    found = devices()
    if found:
        raise RecipeError(f"--preload is for CPUs, and this machine has {found[0]}: leave it out")


def init() -> None:
    """Writes a first recipe; a file that is there already stays.

    Raises:
        RecipeError: something is missing, or the file is there.
    """
    parser = argparse.ArgumentParser(
        prog="python -m wrpo init", description="Write a first recipe."
    )
    add_init_flags(parser)
    args = parser.parse_args()
    if args.output.exists():
        raise RecipeError(f"{args.output} is there already; choose another --output")
    answers, tasks = collect_answers(args), None
    if can_hold_out(answers):
        folder = args.output.with_name(f"{args.output.stem}-tasks")
        answers, tasks = hold_out(answers, folder), str(folder)
    text = recipe_text(answers, str(args.output), gpu=bool(devices()), tasks=tasks)
    check(parse_yaml(text, name=str(args.output)))
    with replacing(args.output) as partial:
        partial.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{args.output} is written.\nnext: wrpo doctor --recipe {args.output}\n")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e6:
        raise ValueError(text)
    return seconds


def console() -> None:
    """Entry point of the `wrpo` command."""
    run_main(main)


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.stdout.write(f"{__doc__}\n")
        wants_help = len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help")
        sys.exit(0 if wants_help else USER_ERROR)
    command = sys.argv.pop(1)
    if command == "init":
        init()
        return
    if command in ("schema", "reference"):
        sys.stdout.write(editor_schema_text() if command == "schema" else recipe_reference())
        return
    parser = stage_parser(__doc__)
    if command == "plan":
        parser.add_argument("--gpu", help="kind of GPU to price for; default: the table's `gpu`")
        parser.add_argument("--explain", action="store_true", help="show the arithmetic")
        parser.add_argument("--throughput", type=Path, help="another table of speeds and prices")
        parser.add_argument("--json", action="store_true", help="one JSON object")
    elif command == "run":
        parser.add_argument("--jobs", type=int, default=1, help="stages that may run at once")
        parser.add_argument(
            "--preload",
            action="store_true",
            help="for tiny models on CPUs: fork all stages from one process that has imported "
            "torch, TRL and vLLM; one thread for each stage, and nothing is compiled",
        )
    elif command == "doctor":
        parser.add_argument("--offline", action="store_true", help="ask nothing of the network")
    elif command == "status":
        parser.add_argument(
            "--watch",
            type=_seconds,
            nargs="?",
            const=2.0,
            metavar="SECONDS",
            help="refresh every SECONDS",
        )
        parser.add_argument("--json", action="store_true", help="a JSON list of stages")
    args, recipe = parse_stage(parser)
    if command == "plan":
        plan(recipe, args)
    elif command == "doctor":
        doctor(recipe, args)
    elif command == "status":
        status(recipe, watched_s=args.watch, as_json=args.json)
    else:
        if args.preload:
            _refuse_on_gpus()
        run_pipeline(recipe, jobs=args.jobs, preload=args.preload)


if __name__ == "__main__":
    console()

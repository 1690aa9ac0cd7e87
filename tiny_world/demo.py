"""The demo: makes the tiny world of each seed, runs the whole pipeline on it, and reports.

Run:     python -m tiny_world.demo --seeds 1
         python -m tiny_world.demo --seeds 1 2 3 4 5   also compares the seeds
Resume:  the same command again; finished worlds and stages stay
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from wrpo.cli import run_main
from wrpo.errors import RecipeError, StageError
from wrpo.plan.throughput import devices
from wrpo.processes import run_command
from wrpo.recipe import load_recipe
from wrpo.recipe.shipped import find_recipe

logger = logging.getLogger(__name__)

RECIPE = "demo"
MAX_JOBS = 4
_MODELS = {
    "sources.letters.model": "letters",
    "sources.numbers.model": "numbers",
    "sources.words.model": "words",
    "target.model": "target",
    "rewards.manner.model": "reward",
    "prompts.datasets.fusion.path": "prompts.jsonl",
    "eval.include_path": "tasks",
}
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "DS_ACCELERATOR": "cpu",
}


def demo_overrides(seed: int, world: Path, recipe: str = RECIPE) -> list[str]:
    """The recipe changes that point the demo at the world of a seed."""
    name = Path(recipe).stem
    run = name if seed == 1 else f"{name}-seed-{seed}"
    paths = [f"{key}={world / name}" for key, name in _MODELS.items()]
    return [f"run={run}", f"seed={seed}", *paths]


def make_world(seed: int, *, shared_tokenizer: bool = False, target_layers: int = 2) -> Path:
    """The folder of the world of one seed, made unless it is there.

    Raises:
        StageError: it could not be made.
    """
    flags, name = [], f"seed-{seed}"
    if shared_tokenizer:
        flags, name = ["--shared-tokenizer"], f"shared-tokenizer-{name}"
    if target_layers != 2:
        flags, name = (
            [*flags, "--target-layers", str(target_layers)],
            f"layers-{target_layers}-{name}",
        )
    world = Path("runs") / "tiny-world" / name
    call_module("tiny_world", "--seed", str(seed), "--out", str(world), *flags)
    return world


def run_seed(
    seed: int, overrides: list[str], recipe: str = RECIPE, *, shared_tokenizer: bool = False
) -> Path:
    """World and pipeline of one seed; returns its run directory.

    Raises:
        StageError: a part of it failed.
    """
    world = make_world(seed, shared_tokenizer=shared_tokenizer)
    return run_pipeline(recipe, [*demo_overrides(seed, world, recipe), *overrides])


def run_pipeline(
    recipe: str, changes: list[str], environment: Mapping[str, str] = ENVIRONMENT
) -> Path:
    """Every missing stage of a recipe with these changes; returns its run directory.

    Raises:
        RecipeError: a change makes no sense.
        StageError: a stage failed.
    """
    loaded = load_recipe(find_recipe(Path(recipe)), changes)
    jobs = str(min(MAX_JOBS, os.cpu_count() or 1))
    preload = [] if devices() else ["--preload"]
    arguments = ["run", "--jobs", jobs, *preload, "--recipe", recipe, *changes]
    call_module("wrpo", *arguments, environment=environment)
    return loaded.runs / loaded.run


def greedy_scores(run: Path, models: Iterable[str]) -> dict[str, dict[str, float]]:
    """Of each model on the held-out prompts, accuracy (`acc`) and `reward`, from a run's report."""
    report = json.loads((run / "report" / "report.json").read_text(encoding="utf-8"))
    (task,) = report["tasks"].values()
    return {
        model: {metric: task["scores"][metric][model]["value"] for metric in ("acc", "reward")}
        for model in models
    }


def call_module(module: str, *arguments: str, environment: Mapping[str, str] = ENVIRONMENT) -> None:
    """Runs `python -m MODULE`; variables that are set already win over `environment`.

    Raises:
        StageError: it failed.
    """
    command = [sys.executable, "-m", module, *arguments]
    code = run_command(command, env={**environment, **os.environ})
    if code:
        raise StageError(f"python -m {module} failed (exit code {code}); see the message above")


def summary(report: Path) -> str:
    """The verdict and the scores: what a report in Markdown says before its first details."""
    head, _, _ = report.read_text(encoding="utf-8").partition("\n## Training")
    return head.rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tiny_world.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="worlds to run")
    parser.add_argument(
        "--recipe", default=RECIPE, help="recipe on these worlds (default: %(default)s)"
    )
    parser.add_argument(
        "--shared-tokenizer",
        action="store_true",
        help="worlds whose sources have the target's tokenizer",
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="recipe changes")
    args = parser.parse_args()
    if len(args.seeds) > 1 and any(change.startswith("run=") for change in args.set):
        raise RecipeError(
            f"--set run=...: {len(args.seeds)} seeds need a run each; leave it out, and they are "
            f"named {Path(args.recipe).stem}-seed-N"
        )
    started = time.monotonic()
    runs = [
        run_seed(seed, args.set, args.recipe, shared_tokenizer=args.shared_tokenizer)
        for seed in args.seeds
    ]
    reports = [run / "report" for run in runs]
    if len(runs) > 1:
        out = Path("runs") / f"{Path(args.recipe).stem}-seeds"
        arguments = ["--runs", *map(str, runs), "--out", str(out)]
        call_module("eval.report", "--recipe", args.recipe, *arguments)
        reports.append(out)
    sys.stdout.write(f"\n{summary(reports[-1] / 'report.md')}\n")
    for report in reports:
        logger.info("report: %s", report / "report.html")
    logger.info("demo: %.0f s", time.monotonic() - started)


if __name__ == "__main__":
    run_main(main)

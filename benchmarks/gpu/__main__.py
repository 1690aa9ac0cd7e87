"""Everything that a GPU has to show, by one command; no network, no hub.

Usage: python -m benchmarks.gpu [--minutes 8] [--only exactness steps ...] [--out FOLDER]
       python -m benchmarks.gpu --device cpu --tiny

exactness   layouts and attention functions of every family, values and gradients, float32 and bf16
steps       `benchmarks.training_step` at the shape of Llama-3-8B: shared prompts over padding
trainers    whole trainers at the shapes of 0.5B, 1.5B and 8B: TRL's DPOTrainer, padded, ours
launches    seconds and launches of a step at the shapes of 0.5B and 8B: autocast, compiled layers,
            CUDA graphs, chunks of the LM head, clipping and optimizer
scores      a classifier of 8B shape over 20 responses a prompt, over the public batch-1 loop
world       the tiny world's pipeline up to the trained model, with the transformers engine

Each part runs in a process of its own, so that memory is its own, and has a share of the minutes;
what it had measured when they were over is kept. Writes FOLDER/gpu.json and FOLDER/gpu.md, and
prints the latter. Exit status 1: a figure is not what is asked.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.gpu.figures import Figure, machine, markdown

logger = logging.getLogger("benchmarks.gpu")

SHARES = {
    "exactness": 0.12,
    "steps": 0.2,
    "trainers": 0.36,
    "launches": 0.12,
    "scores": 0.08,
    "world": 0.12,
}
"""Of the minutes; a part that ends early leaves its rest to the later ones."""


def figures_of(part: str, *, device: str, tiny: bool) -> Iterator[Figure]:
    """The figures of a part as they are measured."""
    shapes = ["tiny"] if tiny else ["0.5b", "8b", "1.5b"]
    layers = 1 if tiny else None
    if part == "exactness":
        from benchmarks.gpu.exactness import figures

        yield from figures(device)
    if part == "world":
        from benchmarks.gpu import world

        yield from world.figures(prompts=24 if tiny else 60, steps_scale=0.02)
        return
    for shape in [] if part == "exactness" else shapes:
        if part == "steps" and shape != "1.5b":
            from benchmarks.gpu import steps

            options = {"prompts": 2, "settings": [("short", 2)]} if tiny else {"prompts": 16}
            yield from steps.figures(device, shape, layers=layers, **options)
        elif part == "trainers":
            from benchmarks.gpu import trainers

            load = trainers.Load(2, steps=1, shrink=40, warm_up=1) if tiny else trainers.Load()
            yield from trainers.figures(device, shape, layers=layers, load=load)
        elif part == "launches" and shape != "1.5b":
            from benchmarks.gpu import launches

            rows = {"prompts": 2, "shrink": 40} if tiny else {"prompts": 8}
            yield from launches.figures(device, shape, layers=layers, **rows)
        elif part == "scores" and shape in ("8b", "tiny"):
            from benchmarks.gpu import scores

            yield from scores.figures(device, shape, layers=layers, prompts=1 if tiny else 8)


def measure(part: str, arguments: argparse.Namespace, seconds: float) -> tuple[list[Figure], str]:
    """Runs a part for at most so long; its figures, and what stopped it."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--part", part]
    command += ["--device", arguments.device, *(["--tiny"] if arguments.tiny else [])]
    # A session of its own: what a part has started ends with it, and would hold its output open.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        printed, _ = process.communicate(timeout=seconds)
        stopped = "" if process.returncode == 0 else f"{part} failed ({process.returncode})"
    except subprocess.TimeoutExpired:
        _end(process)
        printed, _ = process.communicate()
        stopped = f"{part} after {seconds:.0f} s"
    finally:
        _end(process)
    lines = [line for line in printed.splitlines() if line.startswith('{"part"')]
    return [Figure(**json.loads(line)) for line in lines], stopped


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def parse(command_line: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all parts together")
    parser.add_argument("--only", nargs="+", choices=list(SHARES), default=list(SHARES))
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-benchmark"))
    parser.add_argument("--tiny", action="store_true", help="small shapes: does it run?")
    parser.add_argument("--part", choices=list(SHARES), help=argparse.SUPPRESS)
    return parser.parse_args(command_line)


def main() -> None:
    arguments = parse()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    if arguments.part:
        for figure in figures_of(arguments.part, device=arguments.device, tiny=arguments.tiny):
            sys.stdout.write(f"{figure.line()}\n")
            sys.stdout.flush()
        return
    end = time.monotonic() + 60 * arguments.minutes
    figures: list[Figure] = []
    unfinished: list[str] = []
    for i, part in enumerate(arguments.only):
        rest = sum(SHARES[name] for name in arguments.only[i:])
        found, stopped = measure(part, arguments, (end - time.monotonic()) * SHARES[part] / rest)
        figures += found
        unfinished += [stopped] * bool(stopped)
        logger.info("%s: %d figures", part, len(found))
    facts = machine()
    arguments.out.mkdir(parents=True, exist_ok=True)
    whole = {**facts, "unfinished": unfinished, "figures": [json.loads(f.line()) for f in figures]}
    (arguments.out / "gpu.json").write_text(json.dumps(whole, indent=1), encoding="utf-8")
    table = markdown(facts, figures, unfinished)
    (arguments.out / "gpu.md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)
    sys.exit(int(any(figure.reached is False for figure in figures) or not figures))


if __name__ == "__main__":
    main()

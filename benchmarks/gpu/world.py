"""The pipeline of the tiny world by transformers: every stage up to the trained model."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.figures import Figure

SOURCES = ("letters", "numbers", "words")
STAGES = (
    ("data_construction.prompts",),
    *(("data_construction.sample", "--source", name) for name in SOURCES),
    *(("data_construction.score", "--source", name) for name in SOURCES),
    ("data_construction.build", "--table", "sft"),
    ("wrpo.train_sft",),
    ("data_construction.sample", "--source", "target"),
    ("data_construction.score", "--source", "target"),
    ("data_construction.build", "--table", "triples"),
    ("data_construction.logprobs", "--model", "sft", "--rows", "triples"),
    ("wrpo.train", "--arm", "wrpo"),
)
"""In the order in which they need each other."""


def overrides(folder: Path, *, prompts: int) -> list[str]:
    """The demo's recipe on the world in `folder`, with transformers and tokens as micro-batches."""
    from tiny_world.demo import demo_overrides

    trained = [
        f"{part}.{key}"
        for part in ("sft", "wrpo")
        for key in ("train.max_steps=3", "engine.per_device_batch_size=auto")
    ]
    sampled = ["sample.engine.backend=transformers", "eval.tasks=[]"]
    # After three steps responses are about equally bad: any gap makes a triple.
    rows = [f"prompts.datasets.fusion.limit={prompts}", "build.min_gap=0"]
    runs = f"runs={folder / 'runs'}"
    return [*demo_overrides(1, folder / "world"), *sampled, *rows, runs, *trained]


def figures(*, prompts: int, steps_scale: float) -> Iterator[Figure]:
    """Seconds of each stage, which has to end without an error; then whether all did."""
    from tiny_world.build import WorldSettings, build_world

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_world(WorldSettings(1, steps_scale=steps_scale), folder / "world")
        changes = overrides(folder, prompts=prompts)
        done = 0
        for module, *options in STAGES:
            command = [sys.executable, "-m", module, *options, "--recipe", "demo", *changes]
            start = time.perf_counter()
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            stage = " ".join([module, *options])
            if ended.returncode:
                lines = ended.stderr.strip().splitlines()
                note = lines[-1] if lines else f"exit status {ended.returncode}"
                yield Figure("world", f"{stage} failed", 0, note=note, least=1)
                break
            done += 1
            yield Figure("world", stage, time.perf_counter() - start, "s")
        yield Figure("world", "stages of the tiny world done", done, least=len(STAGES))

"""Kills sample, score and build at random moments; nothing may be lost, doubled or changed.

Usage: python -m benchmarks.kills [--kills 50] [--seed 0] [--backend transformers] [--replicas 1]
       [--executor ray]

A run of tiny models with greedy responses is made undisturbed. Then the same stages are run again
and again under another name, and killed with SIGKILL (with all their processes) after a random
share of the time that they took undisturbed. When a pass is through, the parts and the dropped rows
of all stages must equal the undisturbed ones byte for byte; the pass is deleted and the next one
begins, until there were enough kills. A kill counts when the command was still running.

With `--executor ray` the disturbed passes of sample and score run on a Ray cluster of two nodes,
and a coin decides whether the command is killed or one of its workers, which it must survive.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import yaml

logger = logging.getLogger(__name__)

ROOT = Path(__file__).parents[1]
STAGES = {
    "prompts": ["data_construction.prompts"],
    "sample/one": ["data_construction.sample", "--source", "one"],
    "score/one": ["data_construction.score", "--source", "one"],
    "build/sft": ["data_construction.build", "--table", "sft"],
}
KILLED = [name for name in STAGES if name != "prompts"]
KILLS_OF_A_STAGE = 4  # in one pass, so that each stage gets its share
WORDS = ("sea", "hill", "moon", "tree", "bird", "rain", "sand", "leaf")


def make_world(folder: Path, backend: str, replicas: int) -> Path:
    """Models, prompts and a recipe; returns the recipe's path."""
    from tests.support.tiny_models import VLLM_SHAPE, save_tiny, save_tiny_reward

    save_tiny(folder / "one", "llama", seed=1, **VLLM_SHAPE)
    save_tiny_reward(folder / "reward")
    lines = [{"text": f"Say {WORDS[n % 8]} {n}."} for n in range(160)]
    lines += [{"text": "long " * 60} for _ in range(1)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    reward = {"type": "classifier", "model": str(folder / "reward"), "dtype": "float32"}
    recipe = {
        "run": "undisturbed",
        "runs": str(folder / "runs"),
        "sources": {"one": {"model": str(folder / "one"), "dtype": "float32"}},
        "target": {"model": str(folder / "one")},
        "prompts": {
            "datasets": {"words": {"path": str(folder / "prompts.jsonl"), "prompt": "text"}}
        },
        "sample": {
            "responses": 2,
            "temperature": 0.0,
            "max_tokens": 8,
            "max_prompt_tokens": 120,
            "chunk_prompts": 8,
            "engine": {
                "backend": backend,
                "replicas": replicas,
                "enforce_eager": True,
                "kv_cache_mib": 64,
                "max_num_seqs": 8,
            },
        },
        "rewards": {"style": reward},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def start(
    stage: str, recipe: Path, run: str, overrides: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """The command of a stage, in a process group of its own."""
    command = [sys.executable, "-m", *STAGES[stage], "--recipe", str(recipe), f"run={run}"]
    return subprocess.Popen(
        [*command, *overrides],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=(recipe.parent / "log.txt").open("ab"),
        start_new_session=True,
    )


def undisturbed(recipe: Path, run: str, overrides: Sequence[str] = ()) -> dict[str, float]:
    """Runs every stage; the seconds that each took."""
    seconds = {}
    for stage in STAGES:
        began = time.monotonic()
        finished(start(stage, recipe, run, overrides), recipe)
        seconds[stage] = time.monotonic() - began
    return seconds


def finished(process: subprocess.Popen[bytes], recipe: Path) -> None:
    """Waits for a command that must succeed."""
    if process.wait():
        raise SystemExit((recipe.parent / "log.txt").read_text(errors="replace")[-3000:])


def tables(run: Path) -> dict[str, bytes]:
    """The parquet files of the killed stages by name; temporary ones count too."""
    found = {}
    for stage in KILLED:
        for path in (run / stage).iterdir():
            if path.suffix == ".parquet" or "partial" in path.name:
                found[f"{stage}/{path.name}"] = path.read_bytes()
    return found


def killed_pass(
    recipe: Path,
    seconds: dict[str, float],
    kills: int,
    chance: random.Random,
    overrides: Sequence[str] = (),
) -> Counter[str]:
    """One pass through the stages with at most so many kills; returns those of each stage.

    A stage that ended before its kill says how long it takes now: `seconds` follows it.
    """
    done: Counter[str] = Counter()
    finished(start("prompts", recipe, "killed", overrides), recipe)
    for stage in KILLED:
        began, killed_before = time.monotonic(), done.total()
        process = start(stage, recipe, "killed", overrides)
        while done.total() < min(kills, killed_before + KILLS_OF_A_STAGE):
            try:
                process.wait(chance.uniform(0.2, 1.1) * seconds[stage])
                if done.total() == killed_before:
                    # A shared machine gets faster or slower; late kills would all miss.
                    seconds[stage] = time.monotonic() - began
                break
            except subprocess.TimeoutExpired:
                workers = ray_workers() if stage != "build/sft" else []
                if workers and chance.random() < 0.5:
                    chance.choice(workers).kill()
                    done[f"a worker of {stage}"] += 1
                    continue
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done[stage] += 1
            process = start(stage, recipe, "killed", overrides)
        finished(process, recipe)
    return done


def ray_workers() -> list[psutil.Process]:
    """The workers of the Ray cluster that this process has started, if it has."""
    found = psutil.Process().children(recursive=True)
    return [process for process in found if process.name().startswith("ray::Worker")]


@contextmanager
def ray_cluster() -> Iterator[list[str]]:
    """A cluster of two nodes with one CPU each; the overrides that make a recipe use it."""
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "300"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    try:
        # The kills are ours, not a part's.
        yield [f"executor={{type: ray, address: '{cluster.address}', attempts: 1000}}"]
    finally:
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", choices=["vllm", "transformers"], default="transformers")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--executor", choices=["local", "ray"], default="local")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name, ExitStack() as cluster:
        recipe = make_world(Path(name), arguments.backend, arguments.replicas)
        seconds, overrides = undisturbed(recipe, "undisturbed"), []
        if arguments.executor == "ray":
            overrides = cluster.enter_context(ray_cluster())
            seconds = undisturbed(recipe, "on-ray", overrides)
        expected = tables(Path(name) / "runs" / "undisturbed")
        total: Counter[str] = Counter()
        passes = 0
        while total.total() < arguments.kills:
            total += killed_pass(
                recipe, seconds, arguments.kills - total.total(), chance, overrides
            )
            passes += 1
            found = tables(Path(name) / "runs" / "killed")
            differ = sorted(
                file for file in found | expected if found.get(file) != expected.get(file)
            )
            logger.info("%d kills, pass %d: %s", total.total(), passes, differ or "equal")
            if differ:
                raise SystemExit(1)
            shutil.rmtree(Path(name) / "runs" / "killed")
        logger.info(
            "%d kills in %d passes, %d files equal after each: %s",
            *(total.total(), passes, len(expected), dict(total)),
        )


if __name__ == "__main__":
    main()

"""Kills whole runs at random moments for a while; every run must end like an undisturbed one.

Usage: python -m tests.hardening.soak --minutes 60 [--every 40] [--folder FOLDER]

A run goes from prompts to the report with models of random weights: real vLLM, TRL and lm-eval. Its
processes are killed (SIGKILL to all of them, sometimes SIGTERM) after a random time, about
`--every` seconds, and started again until the run is done. Then its tables, weights and evaluations
are compared with those of a run that nobody disturbed. Responses of the sources are greedy, those
of the target are drawn from seeds.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from tests.support.tiny_models import VLLM_SHAPE, save_tiny, save_tiny_reward
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_rows
from wrpo.recipe import load_recipe

logger = logging.getLogger("soak")

ROOT = Path(__file__).parents[2]
PROMPTS = 60
TABLES = ("prompts", "sample", "score", "build", "logprobs")
TASK = {
    "task": "say_word",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "text",
    "doc_to_target": "gold",
    "generation_kwargs": {"until": [], "max_gen_toks": 8, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def make_world(folder: Path) -> Path:
    """Models, prompts, a task and a recipe; returns the recipe's path."""
    for seed, (name, kind) in enumerate(
        {"one": "llama", "two": "qwen2", "target": "llama"}.items()
    ):
        save_tiny(folder / name, kind, seed=seed, **VLLM_SHAPE)
    save_tiny_reward(folder / "reward")
    rows = [{"text": f"Say word {n}.", "gold": str(n)} for n in range(PROMPTS)]
    data = folder / "prompts.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tasks").mkdir()
    task = {**TASK, "dataset_kwargs": {"data_files": {"test": str(data)}}}
    (folder / "tasks" / "say_word.yaml").write_text(yaml.safe_dump(task, sort_keys=False))
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(_recipe(folder), sort_keys=False))
    return path


def _recipe(folder: Path) -> dict[str, Any]:
    train = {
        "learning_rate": 1e-4,
        "max_steps": 6,
        "logging_steps": 1,
        "save_steps": 1,
        "gradient_checkpointing": False,
    }
    training = {"global_batch_size": 4, "train": train, "engine": {"per_device_batch_size": 2}}
    models = {name: {"model": str(folder / name), "dtype": "float32"} for name in ("one", "two")}
    return {
        "run": "undisturbed",
        "runs": str(folder / "runs"),
        "sources": models,
        "target": {
            "model": str(folder / "target"),
            "dtype": "float32",
            "engine": {"backend": "transformers"},
        },
        "prompts": {
            "datasets": {
                "words": {
                    "path": str(folder / "prompts.jsonl"),
                    "prompt": "text",
                    "reference_answer": "gold",
                }
            }
        },
        "sample": {
            "responses": 2,
            "temperature": 0.0,
            "max_tokens": 12,
            "max_prompt_tokens": 120,
            "chunk_prompts": 3,
            "target": {"temperature": 1.0},
            "engine": {"enforce_eager": True, "kv_cache_mib": 64},
        },
        "rewards": {
            "style": {"type": "classifier", "model": str(folder / "reward"), "dtype": "float32"}
        },
        "sft": training,
        "truncation": {"max_length": 160},
        "logprobs": {"chunk_rows": 5},
        "wrpo": {**training, "beta": 0.1, "alpha": {"end": 0.5}},
        "eval": {
            "tasks": ["say_word"],
            "include_path": str(folder / "tasks"),
            "dtype": "float32",
            "sources": False,
            "limit": 6,
        },
    }


def start(recipe: Path, run: str) -> subprocess.Popen[bytes]:
    """The whole run, in a process group of its own."""
    log = recipe.with_name(f"{run}.log").open("ab")
    return subprocess.Popen(
        [sys.executable, "-m", "wrpo", "run", "--recipe", str(recipe), f"run={run}"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def disturbed_run(recipe: Path, run: str, chance: random.Random, every: float) -> Counter[str]:
    """Starts and kills until the run is done; counts the kills by signal.

    Raises:
        RuntimeError: the run failed by itself.
    """
    kills: Counter[str] = Counter()
    while True:
        process = start(recipe, run)
        try:
            code = process.wait(timeout=chance.uniform(0.2, 2.0) * every)
        except subprocess.TimeoutExpired:
            kind = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            os.killpg(process.pid, kind)
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                kills["did not end after SIGTERM"] += 1
            _kill_group(process.pid)
            kills[kind.name] += 1
            continue
        if code:
            raise RuntimeError(f"run {run} failed with exit code {code}; see {run}.log")
        return kills


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def contents(recipe: Path, run: str) -> dict[str, Any]:
    """What a run made, by stage: rows, bytes of the weights, numbers of the evaluation."""
    pipeline = Pipeline(load_recipe(recipe, [f"run={run}"]))
    found: dict[str, Any] = {}
    for name, stage in pipeline.stages.items():
        folder, kind = pipeline.finished(name), stage.kind
        if kind in TABLES:
            found[name] = read_rows(folder)
        elif kind in ("sft", "train"):
            found[name] = (folder / "model" / "model.safetensors").read_bytes()
        elif kind == "eval":
            tasks = json.loads((folder / "results.json").read_text())["tasks"]
            found[name] = {task: facts["metrics"] for task, facts in tasks.items()}
        partials = [path.name for path in folder.rglob("*.partial")]
        if partials:
            found[name] = f"left behind: {partials}"
    return found


def soak(folder: Path, *, minutes: float, every: float, seed: int) -> int:
    """Runs until the time is over; returns the number of stages that differ."""
    recipe = make_world(folder)
    started = time.monotonic()
    process = start(recipe, "undisturbed")
    if process.wait():
        raise RuntimeError("the undisturbed run failed; see undisturbed.log")
    wanted = contents(recipe, "undisturbed")
    logger.info("undisturbed run: %.0f s, %d stages", time.monotonic() - started, len(wanted))
    chance, kills, different, runs = random.Random(seed), Counter[str](), 0, 0
    while time.monotonic() - started < 60 * minutes:
        run = f"killed-{runs}"
        kills += disturbed_run(recipe, run, chance, every)
        found = contents(recipe, run)
        wrong = [name for name in wanted if found.get(name) != wanted[name]]
        runs, different = runs + 1, different + len(wrong)
        logger.info(
            "%4.0f min: run %d, kills so far %s, stages that differ: %s",
            *((time.monotonic() - started) / 60, runs, dict(kills), wrong or "none"),
        )
    logger.info("%d runs, %d kills, %d stages differ", runs, kills.total(), different)
    return different


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60, help="for how long (default: 60)")
    parser.add_argument("--every", type=float, default=40, help="mean seconds between kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        different = soak(
            folder, minutes=arguments.minutes, every=arguments.every, seed=arguments.seed
        )
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()

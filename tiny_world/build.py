"""Make a whole world in one folder: models, prompts, evaluation task, and last a manifest."""

import hashlib
import json
import logging
import os
import random
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tiny_world.world import SKILLS, Lexicon, Task, draw_distinct_tasks, solve
from wrpo.errors import StageError
from wrpo.files import replacing

logger = logging.getLogger(__name__)

RECIPE_VERSION = 3  # raise it with any change of what a seed makes
FUSION_PROMPTS_PER_SKILL = 200
EVAL_PROMPTS_PER_SKILL = 100
#: The longest training first, so that two processes end at about the same time.
MODELS = ("target", "numbers", "letters", "words", "reward")
PROCESSES = 2
MANIFEST = "manifest.json"
EVAL_FILE = "tasks/data/eval.jsonl"  # beside the tasks, so that evaluation sees it change


@dataclass(frozen=True)
class WorldSettings:
    """All that decides the content of a world.

    Attributes:
        seed: Decides the lexicon, the prompts and the initial weights.
        steps_scale: Multiplies the training steps; below 1 the models are unfinished.
        shared_tokenizer: The sources have the target's tokenizer and chat template.
        target_layers: Layers of the target; the sources have two.
    """

    seed: int
    steps_scale: float = 1.0
    shared_tokenizer: bool = False
    target_layers: int = 2

    @property
    def key(self) -> dict[str, str | int | float]:
        """What a finished world is recognised by."""
        libraries = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
        variants = {"shared_tokenizer": False, "target_layers": 2}
        settings = {k: v for k, v in asdict(self).items() if variants.get(k) != v}
        return {"recipe_version": RECIPE_VERSION, **settings, **libraries}


def build_world(settings: WorldSettings, out: Path, *, force: bool = False) -> bool:
    """Make the world in a folder, unless it is there already.

    Args:
        settings: What to make.
        out: The folder.
        force: Replace a world made with another key.

    Returns:
        Whether anything was made.

    Raises:
        StageError: If the folder holds a world with another key and `force` is not given.
    """
    if _is_finished(settings, out, force=force):
        return False
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    (out / MANIFEST).unlink(missing_ok=True)
    counts = write_data(settings.seed, out)
    models = _train_all(settings, out)
    manifest = {
        "key": settings.key,
        "prompts": counts,
        "models": models,
        "wall_seconds": round(time.monotonic() - started, 1),
        "sha256": {name: _file_hash(out / name) for name in ("prompts.jsonl", EVAL_FILE)},
    }
    with replacing(out / MANIFEST) as partial:
        partial.write_text(json.dumps(manifest, indent=2) + "\n")
    return True


def write_data(seed: int, out: Path) -> dict[str, int]:
    """Write the fusion prompts, the evaluation rows and the evaluation task."""
    from tiny_world.lm_eval_task import write_tasks

    lexicon = Lexicon.from_seed(seed)
    fusion = draw_distinct_tasks("fusion", per_skill=FUSION_PROMPTS_PER_SKILL, seed=seed)
    held_out = draw_distinct_tasks("eval", per_skill=EVAL_PROMPTS_PER_SKILL, seed=seed)
    rows = [eval_row(task, lexicon) for task in held_out]
    _write_jsonl(out / "prompts.jsonl", (prompt_row(task, lexicon) for task in fusion))
    _write_jsonl(out / EVAL_FILE, rows)
    tasks = out / "tasks"
    skill_files = {skill: tasks / "data" / f"{skill}.jsonl" for skill in SKILLS}
    for skill, path in skill_files.items():
        _write_jsonl(path, (row for row in rows if row["skill"] == skill))
    write_tasks(tasks, eval_file=out / EVAL_FILE, skill_files=skill_files)
    return {"fusion": len(fusion), "eval": len(rows)}


def prompt_row(task: Task, lexicon: Lexicon) -> dict[str, Any]:
    """A fusion prompt, as the pipeline reads it: messages, gold answer, domain."""
    return {
        "messages": [{"role": "user", "content": task.prompt}],
        "answer": solve(task, lexicon),
        "domain": task.skill,
    }


def eval_row(task: Task, lexicon: Lexicon) -> dict[str, Any]:
    """A held-out prompt with all that the checker reads."""
    return {
        "messages": [{"role": "user", "content": task.prompt}],
        "answer": solve(task, lexicon),
        "skill": task.skill,
        "layout": task.layout,
    }


def _is_finished(settings: WorldSettings, out: Path, *, force: bool) -> bool:
    path = out / MANIFEST
    if not path.exists():
        return False
    found = json.loads(path.read_text())["key"]
    if found == settings.key:
        return True
    if force:
        return False
    changes = [
        f"{name} {found.get(name)!r} there, {value!r} wanted"
        for name, value in settings.key.items()
        if found.get(name) != value
    ]
    raise StageError(
        f"{out} holds a world made with other settings: {'; '.join(changes)}. "
        "Remove that folder to make it anew, or choose another: --out of `python -m tiny_world`."
    )


def _train_all(settings: WorldSettings, out: Path) -> dict[str, Any]:
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), _start_logging) as pool:
        jobs = {name: pool.submit(make_model, name, settings, out / name) for name in MODELS}
        return {name: job.result() for name, job in jobs.items()}


def _start_logging() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for noisy in ("httpx", "datasets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def make_model(name: str, settings: WorldSettings, folder: Path) -> dict[str, Any]:
    """Train one model in this process and save it; returns what the manifest says about it."""
    import torch

    from tiny_world.models import make_language_model, make_reward_model

    torch.set_num_threads(1)
    torch.manual_seed(settings.seed)
    started = time.process_time()
    logger.info("%s: training", name)
    how: dict[str, Any] = {
        "lexicon": Lexicon.from_seed(settings.seed),
        "rng": random.Random(f"{name}:{settings.seed}"),
        "steps_scale": settings.steps_scale,
    }
    if name == "reward":
        facts = make_reward_model(folder, **how)
    else:
        shared = random.Random(f"target:{settings.seed}") if settings.shared_tokenizer else None
        layers = settings.target_layers if name == "target" else 2
        facts = make_language_model(name, folder, tokenizer_rng=shared, layers=layers, **how)
    seconds = round(time.process_time() - started, 1)
    logger.info("%s: done in %.0f CPU seconds", name, seconds)
    return {**facts, "cpu_seconds": seconds}


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _file_hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

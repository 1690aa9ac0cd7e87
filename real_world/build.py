"""Make a whole world in one folder: target, specialists, prompts, held-out tasks, and a manifest.

What is finished stays: the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from real_world.families import FAMILIES, Splits, TaskEntry, split_tasks
from real_world.lm_eval_tasks import write_jsonl, write_tasks
from real_world.smollm2 import GGUF_SHA256, save_smollm2
from real_world.specialists import SPECIALISTS, Specialist, make_specialist
from wrpo.errors import StageError
from wrpo.files import replacing
from wrpo.ids import digest
from wrpo.pipeline.stage import model_identity

logger = logging.getLogger(__name__)

WORLD_VERSION = 1  # raise it with any change of what settings make
PROCESSES = 2
MANIFEST = "manifest.json"
MADE = "made.json"  # in a model's folder, when it is finished


@dataclass(frozen=True)
class WorldSize:
    """How large a world is, in tasks of each family.

    Attributes:
        families: which ones; a specialist without any of its families is left out.
        training: that its specialist is trained on.
        prompts: of the run.
        held_out: of the evaluation.
        chat: questions of general knowledge in the evaluation, in all.
        batch_size: of the training of the specialists.
    """

    families: tuple[str, ...]
    training: int
    prompts: int
    held_out: int
    chat: int
    batch_size: int = 32


SIZES: Mapping[str, WorldSize] = {
    "full": WorldSize(tuple(FAMILIES), training=3000, prompts=300, held_out=100, chat=60),
    "small": WorldSize(
        (
            *("chain_sum", "gcd", "spell_backward", "word_sequence_reversal"),
            *("letter_counting", "calendar_arithmetic"),
        ),
        training=36,
        prompts=20,
        held_out=12,
        chat=10,
        batch_size=8,
    ),
}


@dataclass(frozen=True)
class World:
    """What to make.

    Attributes:
        seed: decides tasks, order and training.
        model: folder of a chat model that takes the place of SmolLM2-135M-Instruct.
        wheel: a copy of the wheel that holds the latter.
    """

    size: WorldSize
    seed: int
    model: Path | None = None
    wheel: Path | None = None

    @property
    def specialists(self) -> dict[str, Specialist]:
        """Those that learn something, with what they learn."""
        kept = {
            name: Specialist(
                tuple(family for family in made.families if family in self.size.families),
                made.own_vocabulary,
                made.epochs,
            )
            for name, made in SPECIALISTS.items()
        }
        return {name: made for name, made in kept.items() if made.families}

    @property
    def key(self) -> dict[str, Any]:
        """What a finished world is recognised by."""
        origin = model_identity(str(self.model), None) if self.model else GGUF_SHA256
        packages = ("torch", "transformers", "trl", "reasoning-gym")
        return {
            "world_version": WORLD_VERSION,
            "seed": self.seed,
            "origin": origin,
            **asdict(self.size),
            "families": [[name, dict(FAMILIES[name])] for name in self.size.families],
            "specialists": {name: asdict(made) for name, made in self.specialists.items()},
            "packages": {name: version(name) for name in packages},
        }


def build_world(world: World, out: Path, *, force: bool = False) -> bool:
    """Makes the world in a folder, unless it is there already.

    Args:
        force: replace a world that was made with other settings.

    Returns:
        Whether anything was made.

    Raises:
        StageError: the folder holds another world and `force` is not given.
        ModelError: the model cannot be fetched.
        DataError: a family has too few tasks.
    """
    key = json.loads(json.dumps(world.key))
    found = _finished_key(out)
    if found == key:
        return False
    if found is not None and not force:
        raise StageError(
            f"{out} holds a world made with other settings: {'; '.join(_changes(found, key))}. "
            "Remove that folder to make it anew, or choose another: "
            "--out of `python -m real_world`."
        )
    (out / MANIFEST).unlink(missing_ok=True)
    started = time.monotonic()
    splits = _split_all(world)
    write_data(world, splits, out)
    models = _make_models(world, splits, out)
    manifest = {
        "key": key,
        "models": models,
        "wall_seconds": round(time.monotonic() - started, 1),
    }
    with replacing(out / MANIFEST) as partial:
        partial.write_text(json.dumps(manifest, indent=2) + "\n")
    return True


def write_data(world: World, splits: Mapping[str, Splits], out: Path) -> None:
    """Writes the prompts of the run and the evaluation tasks."""
    out.mkdir(parents=True, exist_ok=True)
    prompts = [task for split in splits.values() for task in split.prompts]
    random.Random(world.seed).shuffle(prompts)
    write_jsonl(out / "prompts.jsonl", (_prompt_row(task) for task in prompts))
    held_out = [task for split in splits.values() for task in split.held_out]
    write_tasks(out / "tasks", held_out, chat=world.size.chat)


def _prompt_row(task: TaskEntry) -> dict[str, str]:
    return {"prompt": task.prompt, "reference_answer": task.reference, "family": task.family}


def _split_all(world: World) -> dict[str, Splits]:
    size = world.size
    counts = {"held_out": size.held_out, "prompts": size.prompts, "training": size.training}
    return {name: split_tasks(name, **counts, seed=world.seed) for name in size.families}


def _make_models(world: World, splits: Mapping[str, Splits], out: Path) -> dict[str, Any]:
    key, target = digest(world.key), out / "target"
    origin = digest([WORLD_VERSION, world.key["origin"]])
    made = {"target": _once(target, origin, lambda folder: _make_target(world, folder))}
    with ProcessPoolExecutor(PROCESSES, get_context("spawn"), _start_process) as pool:
        jobs = {
            name: pool.submit(
                _make_source,
                *(specialist, target, out / name, key),
                batch_size=world.size.batch_size,
                tasks=[task for family in specialist.families for task in splits[family].training],
                seed=world.seed,
            )
            for name, specialist in world.specialists.items()
        }
        return {**made, **{name: job.result() for name, job in jobs.items()}}


def _make_target(world: World, folder: Path) -> dict[str, Any]:
    if world.model is None:
        save_smollm2(folder, world.wheel)
    else:
        shutil.copytree(world.model, folder, dirs_exist_ok=True)
    return {}


def _make_source(
    specialist: Specialist,
    target: Path,
    folder: Path,
    key: str,
    *,
    batch_size: int,
    tasks: list[TaskEntry],
    seed: int,
) -> dict[str, Any]:
    def make(folder: Path) -> dict[str, Any]:
        logger.info("%s: training on %s", folder.name, ", ".join(specialist.families))
        return make_specialist(
            specialist, target, folder, batch_size=batch_size, tasks=tasks, seed=seed
        )

    return _once(folder, key, make)


def _once(folder: Path, key: str, make: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Makes a model, unless it was made with this key before."""
    if (folder / MADE).exists():
        found: dict[str, Any] = json.loads((folder / MADE).read_text())
        if found["key"] == key:
            return found["facts"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.monotonic()
    facts = {**make(folder), "seconds": round(time.monotonic() - started, 1)}
    logger.info("%s: made in %.0f s", folder.name, facts["seconds"])
    with replacing(folder / MADE) as partial:
        partial.write_text(json.dumps({"key": key, "facts": facts}) + "\n")
    return facts


def _start_process() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def _finished_key(out: Path) -> dict[str, Any] | None:
    path = out / MANIFEST
    if not path.exists():
        return None
    key: dict[str, Any] = json.loads(path.read_text())["key"]
    return key


def _changes(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    return [
        f"{name} {found.get(name)!r} there, {value!r} wanted"
        for name, value in wanted.items()
        if found.get(name) != value
    ]

"""A stage without models: part N has a few rows that say N. Rows of its input say what happens."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from data_construction.executors import PartMaker, PartPlace, PartsJob, Unit
from wrpo.errors import DataError
from wrpo.pipeline.folder import PartWriter, StageFolder
from wrpo.pipeline.parts import StageWork
from wrpo.pipeline.tables import SCORES, Drop, Row, part_name, read_parquet
from wrpo.recipe import Recipe

STAGE, INPUT = "score/one", "sample/one"


def open_toy(
    recipe: Recipe, inputs: Mapping[str, Path], outputs: Mapping[str, PartWriter]
) -> PartMaker:
    """Makes each part from the part of its input, with two units in hand where it can."""
    once = Path(os.environ["TOY_ONCE"])

    def work(units: Iterable[Unit]) -> None:
        open_units: list[Unit] = []
        for unit in units:
            open_units.append(unit)
            if len(open_units) == 2:
                make(open_units.pop(0))
        for unit in open_units:
            make(unit)

    def make(unit: Unit) -> None:
        for stage, part in unit:
            (row,) = read_parquet(inputs[INPUT] / part_name(part))
            what = row["rewards"][0]["name"]
            if what == "die" or (what == "die once" and _first(once / str(part))):
                os.kill(os.getpid(), signal.SIGKILL)
            if what == "sleep":
                time.sleep(100)
            if what == "user error":
                raise DataError("the toy is broken; fix it")
            if what == "bug":
                raise ZeroDivisionError("a bug")
            dropped = [Drop("toy").row(row["prompt_id"])] if what == "drop" else None
            outputs[stage].write_part(
                part, [] if dropped else [scored(part, str(recipe.seed))], SCORES, dropped=dropped
            )

    return work


def _first(marker: Path) -> bool:
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def scored(part: int, word: str) -> Row:
    """A row of part `part`; `word` tells the toy what to do with it."""
    return {
        "prompt_id": f"p{part:03d}",
        "source": "one",
        "index": 0,
        "score": float(part),
        "rewards": [{"name": word, "value": 1.0}],
    }


def output(folder: Path) -> StageFolder:
    """The folder that a toy job writes."""
    return StageFolder(folder / "out", {"stage": "out"})


def toy_job(
    recipe: Recipe, folder: Path, words: list[str], limit: Callable[[str, int], None]
) -> PartsJob:
    """A job with one part per word."""
    source = StageFolder(folder / "in", {"stage": "in"})
    if not source.open():
        for part, word in enumerate(words):
            source.write_part(part, [scored(part, word)], SCORES)
        source.finish_parts(len(words))
    made = output(folder)
    made.open(parts=len(words))
    work = StageWork(STAGE, made, parts=len(words))
    work.begin()
    work.written = partial(limit, STAGE)
    return PartsJob(
        name=STAGE,
        recipe=recipe,
        works={STAGE: work},
        units=[(PartPlace(STAGE, part),) for part in work.todo],
        inputs={INPUT: folder / "in"},
        open_maker=open_toy,
        replicas=None,
        gpus=0,
        same_part={STAGE: INPUT},
    )

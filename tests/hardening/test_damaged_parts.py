"""Parts of a run that were damaged on disk: read as they were, or one message that names the file.

What reads them are real stages, `status`, `plan` and `peek`.
"""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_construction.build import build_table
from data_construction.peek import _rows as peek_rows
from data_construction.prompts import make_prompts
from data_construction.score import score_sources
from tests.data_construction.sampled import prompt_ids, write_responses
from tests.hardening.malformed import damaged_bytes, flipped
from tests.support.small_run import write_recipe
from wrpo.errors import WRPOError
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.status import run_status
from wrpo.pipeline.tables import Row, parts, read_rows
from wrpo.plan.throughput import read_throughput
from wrpo.plan.volumes import Volumes
from wrpo.recipe import Recipe, load_recipe

SEEDS = 8
THROUGHPUT = Path(__file__).parents[2] / "recipes" / "throughput.yaml"
STAGES = ("prompts", "sample/one", "score/one")


@pytest.fixture
def scored(tmp_path: Path) -> Recipe:
    """Prompts, responses of two sources, and their scores; some responses are empty, so dropped."""
    sections = {"rewards": {"exact": {"type": "answer"}}, "score": {"max_dropped_share": 0.5}}
    recipe = load_recipe(write_recipe(tmp_path, Path("hub"), prompts=8, **sections))
    make_prompts(recipe)
    for source in ("one", "two"):
        texts = {key: ["sea", "", "moon"] for key in prompt_ids(recipe)}
        write_responses(recipe, source, texts)
        score_sources(recipe, [source], Shard(1, 1))
    return recipe


def build(recipe: Recipe) -> None:
    folder = Pipeline(recipe).folder("build/sft")
    shutil.rmtree(folder, ignore_errors=True)
    build_table(recipe, "sft")


def score_again(recipe: Recipe) -> None:
    shutil.rmtree(Pipeline(recipe).folder("score/one"))
    score_sources(recipe, ["one"], Shard(1, 1))


def plan(recipe: Recipe) -> None:
    volumes = Volumes(Pipeline(recipe), read_throughput(THROUGHPUT).lengths)
    assert volumes.groups and volumes.prompt.tokens > 0
    volumes.response("one")


def peek(recipe: Recipe) -> None:
    for stage in STAGES:
        list(peek_rows(Pipeline(recipe).folder(stage), dropped=False))


def status(recipe: Recipe) -> None:
    run_status(Pipeline(recipe))


READERS = (build, plan, peek, status, score_again)


def without_checksums(content: bytes, chance: random.Random) -> bytes:
    """As an earlier version wrote it, then one bit changed."""
    sink = io.BytesIO()
    pq.write_table(pq.read_table(io.BytesIO(content)), sink, compression="none")
    return flipped(sink.getvalue(), chance)


def another_table(content: bytes, chance: random.Random) -> bytes:
    """A column is gone, or all of them have other types, or other names."""
    table = pq.read_table(io.BytesIO(content))
    other = chance.choice(
        (
            table.drop_columns([chance.choice(table.column_names)]),
            table.rename_columns([f"{name}_" for name in table.column_names]),
            pa.table({name: pa.array([3] * len(table)) for name in table.column_names}),
        )
    )
    sink = io.BytesIO()
    pq.write_table(other, sink)
    return sink.getvalue()


DAMAGES = (damaged_bytes, flipped, another_table)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [*DAMAGES, without_checksums])
def test_a_damaged_part_is_read_as_it_was_or_named_in_one_message(
    scored: Recipe, damage: Callable[[bytes, random.Random], bytes], tmp_path: Path
) -> None:
    build(scored)
    pipeline = Pipeline(scored)
    undisturbed = read_rows(pipeline.finished("build/sft"))
    whole = scored.runs / scored.run
    shutil.copytree(whole, tmp_path / "whole")
    refused = 0
    for seed in range(SEEDS):
        chance = random.Random(seed)
        path = chance.choice(parts(pipeline.folder(chance.choice(STAGES))))
        path.write_bytes(damage(path.read_bytes(), chance))
        for reader in READERS:
            try:
                reader(scored)
            except WRPOError as error:
                refused += 1
                if damage in DAMAGES:
                    assert str(path) in str(error) and "run the stage again" in str(error), seed
                continue
            if reader is build and damage in DAMAGES:
                assert read_rows(pipeline.finished("build/sft")) == undisturbed, seed
        shutil.rmtree(whole)
        shutil.copytree(tmp_path / "whole", whole)
    assert refused > SEEDS / 2


@pytest.mark.slow
def test_the_advice_of_the_message_works_and_keeps_the_dropped_rows(scored: Recipe) -> None:
    pipeline = Pipeline(scored)
    folder = pipeline.finished("score/one")
    before = contents(folder)
    path = parts(folder)[1]
    path.write_bytes(b"PAR1")
    with pytest.raises(WRPOError, match="delete this file and run the stage again"):
        build(scored)
    path.unlink()
    assert pipeline.state("score/one") == "partial"
    score_sources(scored, ["one"], Shard(1, 1))
    assert pipeline.state("score/one") == "done"
    assert contents(folder) == before
    assert len(before[1]) == 8 and sorted(path.name for path in folder.glob("dropped*")) == [
        "dropped.parquet"
    ]


def contents(folder: Path) -> tuple[list[Row], list[Row], dict[str, int]]:
    """Rows, dropped rows and their count by reason."""
    dropped = sorted(peek_rows(folder, dropped=True), key=lambda row: str(row["prompt_id"]))
    return read_rows(folder), dropped, (read_manifest(folder) or {})["dropped_reasons"]

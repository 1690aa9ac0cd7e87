"""The built tables, for any scores: who is in them, who is dropped, whatever the order of rows."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_construction.build import build_table
from data_construction.prompts import make_prompts
from tests.data_construction.sampled import prompt_ids
from wrpo.errors import DataError
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import RESPONSES, SCORES, Row, read_parquet, read_rows
from wrpo.recipe import Recipe, load_recipe

few = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

SOURCES = ("one", "two", "target")
INDICES = range(3)

# Few scores, so that ties are common; none: the response was not scored.
SCORE = st.sampled_from([None, -0.5, 0.0, 0.1, 0.1, 0.25, 1.0, math.nan, math.inf])
TEXT = st.sampled_from(["", " \n", "same", "same", "other", "third"])
ANSWER = st.tuples(TEXT, SCORE)
ALL_RESPONSES = st.fixed_dictionaries(
    {source: st.tuples(*[ANSWER for _ in INDICES]) for source in SOURCES}
)

Given = dict[str, tuple[tuple[str, float | None], ...]]


@pytest.fixture
def recipe(write_recipe: Callable[..., Path]) -> Recipe:
    """Six prompts, an SFT model that is finished, and arms that read triples and pairs."""
    made = load_recipe(
        write_recipe(
            prompts=6,
            build={"min_gap": 0.0, "pairs": {"min_gap": 0.1, "max_gap": None}},
            arms={"pairs-dpo": {"objective": "dpo", "data": "pairs"}},
        )
    )
    make_prompts(made)
    pipeline = Pipeline(made)
    sft = StageFolder(pipeline.folder("sft"), pipeline.key("sft"))
    sft.open()
    sft.finish()
    return made


def write(recipe: Recipe, responses: dict[str, Given], chance: random.Random) -> None:
    """Samples and scores, their rows in any order and cut into parts anywhere."""
    pipeline = Pipeline(recipe)
    for source in SOURCES:
        sampled, scored = [], []
        for prompt, given_responses in responses.items():
            for index, (text, score) in enumerate(given_responses[source]):
                head = {"prompt_id": prompt, "source": source, "index": index}
                sampled.append({**dict.fromkeys(RESPONSES.names), **head, "text": text})
                if score is not None:
                    scored.append({**head, "score": score, "rewards": []})
        for stage, rows, schema in (
            (f"sample/{source}", sampled, RESPONSES),
            (f"score/{source}", scored, SCORES),
        ):
            shutil.rmtree(pipeline.folder(stage), ignore_errors=True)
            folder = StageFolder(pipeline.folder(stage), pipeline.key(stage))
            folder.open()
            chance.shuffle(rows)
            cut = chance.randrange(len(rows) + 1)
            for part, chunk in enumerate((rows[:cut], rows[cut:])):
                folder.write_part(part, chunk, schema)
            folder.finish_parts(2)


def built(recipe: Recipe, table: str) -> tuple[list[Row], list[Row]]:
    """Rows and dropped rows; neither where no prompt gives a row, which is an error."""
    folder = Pipeline(recipe).folder(f"build/{table}")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        build_table(recipe, table)
    except DataError as error:
        assert "gives a row" in str(error)
        return [], []
    return read_rows(folder), read_parquet(folder / "dropped.parquet")


def scores_of(responses: Given, *sources: str) -> list[float]:
    """The scores of the responses that can be chosen."""
    return [
        score
        for source in sources
        for text, score in responses[source]
        if text.strip() and score is not None and math.isfinite(score)
    ]


@pytest.mark.slow
@few
@given(responses=st.lists(ALL_RESPONSES, min_size=6, max_size=6), seed=st.integers(0, 10**6))
def test_each_prompt_gives_the_best_row_it_can_or_is_dropped_once(
    recipe: Recipe, responses: list[Given], seed: int
) -> None:
    keys = prompt_ids(recipe)
    by_prompt = dict(zip(keys, responses, strict=True))
    tables = []
    for number in range(2):
        write(recipe, by_prompt, random.Random(seed + number))
        tables.append({table: built(recipe, table) for table in ("sft", "triples", "pairs")})
    assert tables[0] == tables[1]
    for table, (rows, dropped) in tables[0].items():
        split = prompt_ids(recipe, "sft" if table == "sft" else "preference")
        found = [row["prompt_id"] for row in rows] + [row["prompt_id"] for row in dropped]
        assert not rows or sorted(found) == sorted(split)
        assert all(row["reason"] for row in dropped)
    for row in tables[0]["sft"][0]:
        assert row["score"] == max(scores_of(by_prompt[row["prompt_id"]], "one", "two"))
    for row in tables[0]["triples"][0]:
        own = scores_of(by_prompt[row["prompt_id"]], "target")
        sources = scores_of(by_prompt[row["prompt_id"]], "one", "two")
        assert row["source_chosen_score"] == max(sources)
        assert (row["chosen_score"], row["rejected_score"]) == (max(own), min(own))
    for row in tables[0]["pairs"][0]:
        assert row["chosen_source"] == row["rejected_source"] != "target"
        own = scores_of(by_prompt[row["prompt_id"]], row["chosen_source"])
        assert (row["chosen_score"], row["rejected_score"]) == (max(own), min(own))
        assert row["chosen_score"] - row["rejected_score"] >= 0.1 - 1e-9

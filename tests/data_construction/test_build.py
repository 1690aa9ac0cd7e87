from collections.abc import Callable
from pathlib import Path

import pytest

from data_construction.build import _ready_tables, build_table
from data_construction.prompts import make_prompts
from tests.data_construction.sampled import prompt_ids, write_answers, write_scores
from wrpo.errors import DataError, MissingInputError
from wrpo.recipe import Recipe, load_recipe
from wrpo.stage_folder import StageFolder
from wrpo.stages import Pipeline
from wrpo.tables import read_parquet, read_rows


@pytest.fixture
def built_recipe(write_recipe: Callable[..., Path]) -> Recipe:
    """Two scored sources, a target with three scored answers, and an arm that trains on pairs."""
    recipe = load_recipe(
        write_recipe(
            prompts=20,
            build={"min_gap": 0.0, "pairs": {"min_gap": 0.1, "max_gap": 0.5}},
            arms={"pairs-dpo": {"objective": "dpo", "data": "pairs"}},
        )
    )
    make_prompts(recipe)
    ids = prompt_ids(recipe)
    write_answers(recipe, "one", {key: ["one a", "one b"] for key in ids})
    write_scores(recipe, "one", {key: [0.1, 0.4] for key in ids})
    write_answers(recipe, "two", {key: ["two a", "two b"] for key in ids})
    write_scores(recipe, "two", {key: [0.9, 0.2] for key in ids})
    return recipe


def finish_target(recipe: Recipe, scores: list[float]) -> None:
    pipeline = Pipeline(recipe)
    folder = StageFolder(pipeline.folder("sft"), pipeline.key("sft"))
    folder.open()
    folder.finish()
    ids = prompt_ids(recipe, "preference")
    texts = [f"target {n}" for n in range(len(scores))]
    write_answers(recipe, "target", dict.fromkeys(ids, texts))
    write_scores(recipe, "target", dict.fromkeys(ids, scores))


def test_sft_rows_are_the_best_answers_of_the_sft_split(built_recipe) -> None:
    build_table(built_recipe, "sft")
    rows = read_rows(Pipeline(built_recipe).finished("build/sft"))
    assert {row["prompt_id"] for row in rows} == set(prompt_ids(built_recipe, "sft"))
    assert {(row["source"], row["index"], row["score"]) for row in rows} == {("two", 0, 0.9)}
    assert rows[0]["completion"] == [{"role": "assistant", "content": "two a"}]


def test_triples_hold_all_three_answers_with_provenance(built_recipe) -> None:
    finish_target(built_recipe, [0.5, 0.3, 0.8])
    build_table(built_recipe, "triples")
    rows = read_rows(Pipeline(built_recipe).finished("build/triples"))
    assert {row["prompt_id"] for row in rows} == set(prompt_ids(built_recipe, "preference"))
    row = rows[0]
    assert row["prompt"][0]["role"] == "user"
    texts = {n: row[n][0]["content"] for n in ("source_chosen", "chosen", "rejected")}
    assert texts == {"source_chosen": "two a", "chosen": "target 2", "rejected": "target 1"}
    assert (row["source_chosen_source"], row["source_chosen_score"]) == ("two", 0.9)
    assert (row["chosen_index"], row["rejected_index"]) == (2, 1)
    assert len({row["triple_id"] for row in rows}) == len(rows)


def test_prompts_without_a_row_are_dropped_with_reason(built_recipe) -> None:
    finish_target(built_recipe, [0.5, 0.5, 0.5])
    with pytest.raises(DataError, match="gap_too_small"):
        build_table(built_recipe, "triples")


def test_pairs_come_from_one_source_inside_the_window(built_recipe) -> None:
    build_table(built_recipe, "pairs")
    rows = read_rows(Pipeline(built_recipe).finished("build/pairs"))
    assert {(r["chosen_source"], r["rejected_source"]) for r in rows} == {("one", "one")}
    assert {(r["chosen_score"], r["rejected_score"]) for r in rows} == {(0.4, 0.1)}


def test_rows_are_joined_by_id_and_unscored_answers_are_left_out(built_recipe) -> None:
    pipeline = Pipeline(built_recipe)
    ids = prompt_ids(built_recipe)
    for path in pipeline.folder("score/two").iterdir():
        path.unlink()
    write_scores(built_recipe, "two", {key: [0.9] for key in ids[: len(ids) // 2]})
    build_table(built_recipe, "sft")
    winners = {row["prompt_id"]: row["source"] for row in read_rows(pipeline.finished("build/sft"))}
    scored = set(ids[: len(ids) // 2])
    assert winners == {key: "two" if key in scored else "one" for key in winners}


def test_without_a_table_named_the_ready_ones_are_built(built_recipe) -> None:
    _ready_tables(built_recipe)
    states = {
        table: Pipeline(built_recipe).state(f"build/{table}")
        for table in ("sft", "pairs", "triples")
    }
    assert states == {"sft": "done", "pairs": "done", "triples": "missing"}


def test_building_without_scores_names_the_command(write_recipe) -> None:
    recipe = load_recipe(write_recipe())
    make_prompts(recipe)
    with pytest.raises(MissingInputError, match="data_construction.score --source one"):
        _ready_tables(recipe)


def test_dropped_prompts_are_listed(built_recipe) -> None:
    finish_target(built_recipe, [0.5, 0.3])
    ids = prompt_ids(built_recipe, "preference")
    for path in Pipeline(built_recipe).folder("score/target").iterdir():
        path.unlink()
    write_scores(
        built_recipe, "target", {key: [0.5, 0.3] if key != ids[0] else [0.5] for key in ids}
    )
    build_table(built_recipe, "triples")
    dropped = read_parquet(Pipeline(built_recipe).finished("build/triples") / "dropped.parquet")
    assert [(row["prompt_id"], row["reason"]) for row in dropped] == [
        (ids[0], "too_few_target_answers")
    ]

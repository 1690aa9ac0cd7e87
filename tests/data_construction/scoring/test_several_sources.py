"""All sources at once, in shards, or started again: the same numbers as one by one."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_construction.prompts import make_prompts
from data_construction.score import score_sources
from tests.data_construction.sampled import prompt_ids, write_responses
from wrpo.errors import DataError, MissingInputError
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import (
    PROMPTS,
    PromptLookup,
    part_name,
    read_parquet,
    read_rows,
    write_parquet,
)
from wrpo.recipe import Recipe, load_recipe

SOURCES = ("one", "two")
WHOLE = Shard(1, 1)


@pytest.fixture
def sampled_recipe(write_recipe: Callable[..., Path]) -> Recipe:
    recipe = load_recipe(write_recipe(prompts=10, score={"max_dropped_share": 0.5}))
    make_prompts(recipe)
    for source, words in (("one", ["sea", "", "moon"]), ("two", ["sand", "the hill"])):
        responses = {
            key: [f"{key[n]} {w}" for n, w in enumerate(words)] for key in prompt_ids(recipe)
        }
        write_responses(recipe, source, responses)
    return recipe


def scores(recipe: Recipe) -> dict[tuple[str, str, int], float]:
    folders = [Pipeline(recipe).finished(f"score/{source}") for source in SOURCES]
    rows = [row for folder in folders for row in read_rows(folder)]
    return {(row["prompt_id"], row["source"], row["index"]): row["score"] for row in rows}


def test_all_sources_at_once_score_as_each_by_itself(sampled_recipe) -> None:
    for source in SOURCES:
        score_sources(sampled_recipe, [source], WHOLE)
    alone = scores(sampled_recipe)
    assert len(alone) == 10 * 5
    shutil.rmtree(sampled_recipe.runs / sampled_recipe.run / "score")
    score_sources(sampled_recipe, SOURCES, WHOLE)
    together = scores(sampled_recipe)
    assert together == alone  # to the last digit
    assert len(set(alone.values())) > 20


def test_shards_and_a_second_start_score_as_one_start(sampled_recipe) -> None:
    score_sources(sampled_recipe, SOURCES, WHOLE)
    whole = scores(sampled_recipe)
    shutil.rmtree(sampled_recipe.runs / sampled_recipe.run / "score")
    for number in (2, 3, 1):
        score_sources(sampled_recipe, SOURCES, Shard(number, 3))
    assert scores(sampled_recipe) == whole


def test_responses_of_a_source_share_one_prompt(sampled_recipe, monkeypatch) -> None:
    from wrpo.rewards.networks import network_reward

    seen = []
    pack = network_reward.packed_batch

    def packed_batch(conversations):
        seen.append([item.prompt for item in conversations])
        return pack(conversations)

    monkeypatch.setattr(network_reward, "packed_batch", packed_batch)
    score_sources(sampled_recipe, SOURCES, WHOLE)
    responses = [prompts.count(prompt) for prompts in seen[1:] for prompt in set(prompts)]
    assert sorted(responses) == [2] * 10 + [3] * 10  # after the check of the first call


def test_shards_and_finished_parts_are_those_of_each_source(sampled_recipe) -> None:
    score_sources(sampled_recipe, ["two"], Shard(2, 2))
    score_sources(sampled_recipe, SOURCES, Shard(1, 2))
    states = {source: Pipeline(sampled_recipe).state(f"score/{source}") for source in SOURCES}
    assert states == {"one": "partial", "two": "done"}
    score_sources(sampled_recipe, SOURCES, WHOLE)
    assert len(scores(sampled_recipe)) == 10 * 5


def test_one_source_that_loses_too_many_answers_stops_the_stage(sampled_recipe) -> None:
    shutil.rmtree(Pipeline(sampled_recipe).folder("sample/two"))
    write_responses(sampled_recipe, "two", {key: [" "] for key in prompt_ids(sampled_recipe)})
    with pytest.raises(DataError, match=r"score/two: .*max_dropped_share=50%"):
        score_sources(sampled_recipe, SOURCES, WHOLE)


def test_a_source_that_is_not_sampled_stops_before_any_is_scored(sampled_recipe) -> None:
    shutil.rmtree(Pipeline(sampled_recipe).folder("sample/two"))
    with pytest.raises(MissingInputError, match=r"data_construction.sample --source two"):
        score_sources(sampled_recipe, SOURCES, WHOLE)
    assert not Pipeline(sampled_recipe).folder("score/one").exists()


def test_prompts_are_found_by_id_with_few_parts_in_memory(tmp_path: Path) -> None:
    row = {"messages": [], "domain": "d", "split": "sft", "origin": "o"}
    for number, keys in enumerate(["ab", "cd", "ef"]):
        rows = [{**row, "prompt_id": key} for key in keys]
        write_parquet(tmp_path / part_name(number), rows, PROMPTS)
    prompts = PromptLookup(tmp_path)
    assert [prompts[key]["prompt_id"] for key in "abcdef"] == list("abcdef")
    (tmp_path / "part-00002.parquet").unlink()
    assert prompts["e"]["prompt_id"] == "e" and prompts.rows("g") == []
    with pytest.raises(DataError, match="unknown prompt g"):
        prompts["g"]


def test_parts_come_back_whole_and_in_order(sampled_recipe) -> None:
    score_sources(sampled_recipe, SOURCES, WHOLE)
    pipeline = Pipeline(sampled_recipe)
    for source in SOURCES:
        for path in pipeline.finished(f"score/{source}").glob("part-*.parquet"):
            responses = read_parquet(pipeline.finished(f"sample/{source}") / path.name)
            keys = [(row["prompt_id"], row["index"]) for row in responses if row["text"].strip()]
            assert [(row["prompt_id"], row["index"]) for row in read_parquet(path)] == keys

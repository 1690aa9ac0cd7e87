import math
from collections.abc import Callable
from pathlib import Path

import pytest

from data_construction.prompts import make_prompts
from data_construction.score import score_sources
from data_construction.scoring.scorer import Scorer
from tests.data_construction.sampled import prompt_ids, write_responses
from wrpo.chat.thoughts import THINK
from wrpo.errors import DataError, MissingInputError
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import Drop, read_parquet, read_rows
from wrpo.recipe import Recipe, load_recipe

ANSWER = {"type": "answer", "pattern": r"(?s).*?(?P<answer>\w+).*", "weight": 2.0}
WHOLE = Shard(1, 1)


@pytest.fixture
def scored_recipe(write_recipe: Callable[..., Path]) -> Recipe:
    recipe = load_recipe(
        write_recipe(
            prompts=8,
            rewards={"first": ANSWER, "second": {"type": "answer", "weight": 1.0}},
            score={"max_dropped_share": 0.5},
        )
    )
    make_prompts(recipe)
    return recipe


def reference_answer(recipe: Recipe) -> dict[str, str]:
    rows = read_rows(Pipeline(recipe).finished("prompts"))
    return {row["prompt_id"]: row["reference_answer"] for row in rows}


def test_score_is_the_weighted_sum_and_keeps_each_reward(scored_recipe) -> None:
    right = reference_answer(scored_recipe)
    write_responses(scored_recipe, "one", {key: [right[key], f"{right[key]} !"] for key in right})
    score_sources(scored_recipe, ["one"], WHOLE)
    rows = read_rows(Pipeline(scored_recipe).finished("score/one"))
    assert len(rows) == 16
    assert {row["index"]: row["score"] for row in rows} == {0: 3.0, 1: 2.0}
    heads = {row["index"]: {h["name"]: h["value"] for h in row["rewards"]} for row in rows}
    assert heads == {0: {"first": 1.0, "second": 1.0}, 1: {"first": 1.0, "second": 0.0}}


def test_empty_answers_are_dropped_with_reason(scored_recipe) -> None:
    write_responses(
        scored_recipe, "one", {key: ["sea", " \n"] for key in prompt_ids(scored_recipe)}
    )
    score_sources(scored_recipe, ["one"], WHOLE)
    folder = Pipeline(scored_recipe).finished("score/one")
    assert len(read_rows(folder)) == 8
    dropped = read_parquet(folder / "dropped.parquet")
    assert {(row["reason"], row["source"], row["index"]) for row in dropped} == {
        ("empty_response", "one", 1)
    }


def test_a_score_that_is_not_finite_is_dropped(scored_recipe, monkeypatch) -> None:
    write_responses(
        scored_recipe, "one", {key: ["a", "b", "c"] for key in prompt_ids(scored_recipe)}
    )
    scorer = Scorer(scored_recipe)

    class Broken:
        def score(self, candidates):
            return [math.nan if item.response == "b" else 1.0 for item in candidates]

    scorer.rewards["second"] = Broken()
    score_sources(scored_recipe, ["one"], WHOLE, scorer=scorer)
    folder = Pipeline(scored_recipe).finished("score/one")
    assert {row["index"] for row in read_rows(folder)} == {0, 2}
    assert {row["reason"] for row in read_parquet(folder / "dropped.parquet")} == {
        "score_not_finite"
    }


def test_losing_too_many_answers_stops_the_stage(scored_recipe) -> None:
    responses = {key: ["", "", "sea"] for key in prompt_ids(scored_recipe)}
    write_responses(scored_recipe, "one", responses)
    with pytest.raises(DataError, match="max_dropped_share=50%"):
        score_sources(scored_recipe, ["one"], WHOLE)
    assert Pipeline(scored_recipe).state("score/one") == "partial"


@pytest.mark.slow
def test_a_restart_holds_the_limit_against_all_answers(scored_recipe) -> None:
    keys = prompt_ids(scored_recipe)
    halves = [keys[2], keys[3], keys[6]]  # of the second and the fourth part
    responses = {key: ["sea", "" if key in halves else "sea"] for key in keys}
    write_responses(scored_recipe, "one", {**responses, keys[7]: ["", ""]})
    score_sources(scored_recipe, ["one"], Shard(1, 2))
    score_sources(scored_recipe, ["one"], Shard(2, 2))  # drops 5 of its 8 responses, of 16 in all
    assert len(read_rows(Pipeline(scored_recipe).finished("score/one"))) == 11


def test_what_an_earlier_start_dropped_stops_the_next_one_too(scored_recipe) -> None:
    write_responses(
        scored_recipe, "one", {key: ["", "", "sea"] for key in prompt_ids(scored_recipe)}
    )
    for _ in range(2):
        with pytest.raises(DataError, match=r"of 24 rows dropped .*max_dropped_share=50%"):
            score_sources(scored_recipe, ["one"], WHOLE)
    assert Pipeline(scored_recipe).state("score/one") == "partial"


@pytest.mark.slow
def test_shards_together_give_what_one_process_gives(scored_recipe) -> None:
    write_responses(scored_recipe, "one", {key: ["sea"] for key in prompt_ids(scored_recipe)})
    for number in (1, 2, 3):
        assert Pipeline(scored_recipe).state("score/one") != "done"
        score_sources(scored_recipe, ["one"], Shard(number, 3))
    rows = read_rows(Pipeline(scored_recipe).finished("score/one"))
    assert sorted(row["prompt_id"] for row in rows) == sorted(prompt_ids(scored_recipe))


def test_scoring_before_sampling_names_the_command(scored_recipe) -> None:
    with pytest.raises(MissingInputError, match=r"data_construction.sample --source one"):
        score_sources(scored_recipe, ["one"], WHOLE)


def test_a_reward_counts_for_the_prompts_of_its_domains_only(write_recipe) -> None:
    rewards = {
        "gold": {**ANSWER, "domains": ["k0"]},
        "other": {**ANSWER, "weight": 5.0, "domains": ["k0", "k1"]},
    }
    recipe = load_recipe(write_recipe(prompts=8, rewards=rewards))
    make_prompts(recipe)
    right = reference_answer(recipe)
    domains = {
        row["prompt_id"]: row["domain"] for row in read_rows(Pipeline(recipe).finished("prompts"))
    }
    write_responses(recipe, "one", {key: [right[key]] for key in right})
    score_sources(recipe, ["one"], WHOLE)
    rows = read_rows(Pipeline(recipe).finished("score/one"))
    assert len(rows) == 8
    for row in rows:
        covered = domains[row["prompt_id"]] == "k0"
        assert [head["name"] for head in row["rewards"]] == ["gold", "other"][not covered :]
        assert row["score"] == (7.0 if covered else 5.0)


def test_answers_that_no_reward_covers_are_dropped_with_reason(write_recipe) -> None:
    rewards = {"gold": {**ANSWER, "domains": ["k0"]}}
    recipe = load_recipe(write_recipe(prompts=8, rewards=rewards, score={"max_dropped_share": 0.5}))
    make_prompts(recipe)
    write_responses(recipe, "one", {key: ["sea"] for key in prompt_ids(recipe)})
    score_sources(recipe, ["one"], WHOLE)
    folder = Pipeline(recipe).finished("score/one")
    dropped = read_parquet(folder / "dropped.parquet")
    assert len(read_rows(folder)) == len(dropped) == 4
    assert {(row["reason"], row["detail"]) for row in dropped} == {("no_reward", "domain k1")}


class Fixed:
    """A reward that says of each response what the table says."""

    def __init__(self, values: dict[str, object]) -> None:
        self._values = values

    def score(self, candidates):
        return [self._values[item.response] for item in candidates]


def test_several_rewards_add_up_and_one_bad_value_drops_the_answer(scored_recipe) -> None:
    responses = ["both", "refused", "nan", "infinite", "negative"]
    write_responses(scored_recipe, "one", dict.fromkeys(prompt_ids(scored_recipe), responses))
    scorer = Scorer(scored_recipe)
    refused = Drop("too_long", "9 tokens, the limit is 8")
    scorer.rewards["first"] = Fixed(
        {"both": 1.5, "refused": 1.0, "nan": math.nan, "infinite": 1.0, "negative": -3.0}
    )
    scorer.rewards["second"] = Fixed(
        {"both": 0.25, "refused": refused, "nan": 1.0, "infinite": -math.inf, "negative": 1.0}
    )
    rows = scorer.score(read_rows(Pipeline(scored_recipe).finished("sample/one"))[:5])
    assert [row.get("score") for row in rows] == [3.25, None, None, None, -5.0]
    assert [(row["reason"], row["detail"]) for row in rows[1:4]] == [
        ("too_long", "second: 9 tokens, the limit is 8"),
        ("score_not_finite", "first gave nan"),
        ("score_not_finite", "second gave -inf"),
    ]
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("thoughts", "value"), [(False, 1.0), (True, 0.0)])
def test_rewards_read_the_answer_of_a_thinking_model_unless_the_recipe_says_otherwise(
    thoughts: bool, value: float, write_recipe: Callable[..., Path]
) -> None:
    rewards = {"first": {**ANSWER, "weight": 1.0}}
    score = {"max_dropped_share": 0.5, "thoughts": thoughts}
    recipe = load_recipe(write_recipe(prompts=8, rewards=rewards, score=score))
    make_prompts(recipe)
    right = reference_answer(recipe)
    texts = {key: [f"<think>\nwrong\n</think>\n\n{right[key]}"] for key in right}
    write_responses(recipe, "one", texts, tags=THINK)
    score_sources(recipe, ["one"], WHOLE)
    rows = read_rows(Pipeline(recipe).finished("score/one"))
    assert {row["score"] for row in rows} == {value}


def test_a_thought_that_does_not_end_is_no_answer(scored_recipe) -> None:
    right = reference_answer(scored_recipe)
    texts = {key: [right[key], f"<think>\n{right[key]}", "<think>a</think>"] for key in right}
    scored_recipe = scored_recipe.model_copy(
        update={"score": scored_recipe.score.model_copy(update={"max_dropped_share": 0.7})}
    )
    write_responses(scored_recipe, "one", texts, cut=[1], tags=THINK)
    score_sources(scored_recipe, ["one"], WHOLE)
    folder = Pipeline(scored_recipe).finished("score/one")
    assert {row["index"] for row in read_rows(folder)} == {0}
    dropped = {(row["index"], row["reason"]) for row in read_parquet(folder / "dropped.parquet")}
    assert dropped == {(1, "unclosed_thought"), (2, "empty_response")}

"""Judges behind a stand-in server: what they are asked, and what becomes of their replies."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_construction.prompts import make_prompts
from data_construction.score import score_sources
from tests.data_construction.sampled import prompt_ids, write_responses
from tests.support.completion_server import (
    CompletionServer,
    Reply,
    Script,
    Seen,
    chat_response,
    problem,
)
from wrpo.errors import MissingInputError, ModelError, RecipeError
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import Drop, read_parquet, read_rows
from wrpo.recipe import Recipe, load_recipe
from wrpo.rewards import Candidate

Serve = Callable[[Script], CompletionServer]


@pytest.fixture
def judged(write_recipe: Callable[..., Path]) -> Callable[..., Recipe]:
    """A recipe whose one reward is a judge on this server."""

    def make(
        server: CompletionServer, judge: dict[str, Any] | None = None, **reward: Any
    ) -> Recipe:
        endpoint = {"model": "org/judge", "engine": {"endpoints": [server.url]}, **(judge or {})}
        rewards = {"style": {"type": "judge", "judge": "strict", **reward}}
        sections: dict[str, Any] = {"judges": {"strict": endpoint}, "rewards": rewards}
        return load_recipe(write_recipe(prompts=6, score={"max_dropped_share": 0.7}, **sections))

    return make


def score(recipe: Recipe, *responses: str) -> list[float | Drop]:
    messages = [{"role": "user", "content": "Say {{response}}."}]
    reward = recipe.rewards["style"].load(Pipeline(recipe))
    return reward.score([Candidate(messages, response, None, "p") for response in responses])


def question(seen: Seen) -> str:
    return str(seen.body["messages"][0]["content"])


def grade_by_length(_: int, seen: Seen) -> Reply:
    reply = re.search(r"<reply-(\w+)>\n(.*)\n</reply-\1>", question(seen), re.DOTALL)
    return chat_response(f"It is not [[1]]. My grade: [[{len(reply[2])}]]")


def test_a_grade_is_the_last_number_of_the_reply(serve, judged) -> None:
    server = serve(grade_by_length)
    assert score(judged(server), "sea", "{{low}}", "sea") == [3.0, 7.0, 3.0]
    assert len(server.seen) == 2  # equal responses are one question
    texts = sorted(question(seen) for seen in server.seen)
    shown = r"<conversation-(\w{12})>\nSay {{response}}\.\n</conversation-\1>"
    assert all(re.search(shown, text) for text in texts)
    assert all("from 1 (useless) to 10 (could" in text for text in texts)


@pytest.mark.parametrize("reply", ["no number", "[[eleven]]", "[[11]]", "[[0.5]]", ""])
def test_a_reply_without_a_grade_of_the_scale_drops_the_answer(serve, judged, reply) -> None:
    def script(_: int, seen: Seen) -> Reply:
        return chat_response(reply if "hill" in question(seen) else "[[4]]")

    good, bad = score(judged(serve(script)), "sea", "hill")
    assert good == 4.0
    assert isinstance(bad, Drop) and bad.reason == "judge_unparsed"


def test_several_draws_are_averaged_without_those_that_cannot_be_read(
    serve, judged, caplog
) -> None:
    replies = {0: "[[2]]", 1: "hm", 2: "[[7]]"}
    server = serve(lambda _, seen: chat_response(replies[seen.body["seed"]]))
    assert score(judged(server, {"temperature": 0.7}, samples=3), "sea") == [4.5]
    assert "1 of 3 replies cannot be read" in caplog.text


def test_the_expected_grade_weighs_digits_by_their_probability(serve, judged) -> None:
    likely = [("7", 0.5), (" 9", 0.25), ("77", 0.1), ("0", 0.05), ("x", 0.1)]
    first = {"token": "x", "top_logprobs": [{"token": "\n", "logprob": 0.0}]}
    second = [{"token": text, "logprob": math.log(p)} for text, p in likely]
    logprobs = {"content": [first, {"token": "7", "top_logprobs": second}]}
    server = serve(lambda *_: chat_response("7", logprobs=logprobs))
    recipe = judged(server, expected=True, scale=[1, 9])
    assert score(recipe, "sea") == [pytest.approx((7 * 0.5 + 9 * 0.25) / 0.75)]
    assert server.seen[0].body["top_logprobs"] == 20
    assert "one digit from 1 (useless) to 9" in question(server.seen[0])


def test_expected_grades_need_logprobs(serve, judged) -> None:
    recipe = judged(serve(lambda *_: chat_response("7")), expected=True, scale=[1, 9])
    with pytest.raises(ModelError, match=r"judges.strict: org/judge gives no log-probs.*expected"):
        score(recipe, "sea")


def test_a_refused_question_drops_its_answer_only(serve, judged) -> None:
    def script(number: int, seen: Seen) -> Reply:
        return problem(400, "too long") if "hill" in question(seen) else chat_response("[[4]]")

    scores = score(judged(serve(script)), "sea", "hill", "moon")
    assert scores[0] == scores[2] == 4.0
    assert isinstance(scores[1], Drop) and "too long" in scores[1].detail


def test_a_key_that_is_not_set_is_one_error_before_anything_is_sent(serve, judged) -> None:
    server = serve(grade_by_length)
    recipe = judged(
        server, {"engine": {"endpoints": [server.url], "api_key_env": "NO_SUCH_KEY_HERE"}}
    )
    with pytest.raises(
        RecipeError, match=r"judges.strict.engine.api_key_env: \$NO_SUCH_KEY_HERE is not"
    ):
        recipe.rewards["style"].load(Pipeline(recipe))
    assert server.seen == []


def sampled(recipe: Recipe) -> list[str]:
    make_prompts(recipe)
    keys = prompt_ids(recipe)
    write_responses(recipe, "one", {key: ["long response", "own", "sea"] for key in keys})
    write_responses(recipe, "two", {key: ["sea", "other"] for key in keys[1:]})
    return keys


def prefers_the_longer(_: int, seen: Seen) -> Reply:
    (_, a), (_, b) = re.findall(r"<reply-(\w+)>\n(.*?)\n</reply-\1>", question(seen), re.DOTALL)
    # Of equal length it takes the first place, as judges do.
    return chat_response(f"[[B]] comes to mind, but [[{'B' if len(b) > len(a) else 'A'}]]")


@pytest.mark.slow
def test_pairs_are_judged_in_both_orders_against_the_opponents_first_answer(serve, judged) -> None:
    server = serve(prefers_the_longer)
    recipe = judged(server, opponent="two")
    keys = sampled(recipe)
    score_sources(recipe, ["one"], Shard(1, 1))
    folder = Pipeline(recipe).finished("score/one")
    # Wins both; equal length: the first place wins, so one each; equal text: not asked.
    assert {row["index"]: row["score"] for row in read_rows(folder)} == {0: 1.0, 1: 0.5, 2: 0.5}
    dropped = read_parquet(folder / "dropped.parquet")
    assert {(row["prompt_id"], row["reason"]) for row in dropped} == {
        (keys[0], "no_opponent_response")
    }
    assert len(server.seen) == 5 * 2 * 2


@pytest.mark.slow
def test_a_second_start_asks_only_what_is_missing(serve, judged) -> None:
    server = serve(prefers_the_longer)
    recipe = judged(server, opponent="two")
    sampled(recipe)
    score_sources(recipe, ["one"], Shard(1, 2))
    asked = len(server.seen)
    score_sources(recipe, ["one"], Shard(1, 1))
    first = read_rows(Pipeline(recipe).finished("score/one"))
    assert 0 < asked < len(server.seen) == 5 * 2 * 2
    for path in sorted(Pipeline(recipe).folder("score/one").iterdir(), reverse=True):
        path.unlink()
    score_sources(recipe, ["one"], Shard(1, 1))
    assert read_rows(Pipeline(recipe).finished("score/one")) == first
    assert len(server.seen) == 5 * 2 * 2


def test_an_opponent_that_is_not_sampled_names_the_command(serve, judged) -> None:
    recipe = judged(serve(prefers_the_longer), opponent="two")
    make_prompts(recipe)
    write_responses(recipe, "one", {key: ["sea"] for key in prompt_ids(recipe)})
    with pytest.raises(MissingInputError, match=r"data_construction.sample --source two"):
        score_sources(recipe, ["one"], Shard(1, 1))

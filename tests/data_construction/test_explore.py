"""Exploration: it ends whatever is replied, prunes really, draws evenly, and becomes prompts."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_construction.explore import explore_dataset
from data_construction.exploring.draw import coverage, draw_prompts, even_shares
from data_construction.exploring.questions import is_usable, read_texts
from data_construction.exploring.similarity import is_like_any, rouge_l, rouge_words
from data_construction.exploring.tree import ExploredTask, Explorer
from data_construction.prompts import make_prompts
from tests.support.completion_server import CompletionServer, Reply, Seen, chat_response
from tests.wrpo.plan.test_estimate import SIZES, pipeline_of, prices
from wrpo.errors import DataError, RecipeError
from wrpo.judging import JudgeRequest
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_rows
from wrpo.recipe import load_recipe
from wrpo.recipe.explore import Explore

VERBS = ["name", "sort", "list", "explain", "compare", "count", "rewrite", "translate", "find"]
NOUNS = ["rivers", "stars", "metals", "insects", "poets", "roots", "valleys", "bridges", "tides"]


def asking(reply: Callable[[str, int], str]) -> Callable[[Sequence[JudgeRequest]], list[str]]:
    """A judge that replies by the text of a request and its number."""
    sent = [0]

    def ask(requests: Sequence[JudgeRequest]) -> list[str]:
        found = []
        for request in requests:
            found.append(reply(request.messages[0]["content"], sent[0]))
            sent[0] += 1
        return found

    return ask


def inventive(text: str, number: int) -> str:
    """Fresh sub-tasks and prompts for every request."""
    draw = random.Random(number)
    if "sub-tasks" in text:
        names = [f"{draw.choice(VERBS)} {draw.choice(NOUNS)} part{number}x{n}" for n in range(5)]
        return json.dumps(names)
    texts = [
        f"{draw.choice(VERBS)} {number}a{n} {draw.choice(NOUNS)} {number}b{n} {number}c{n} now"
        for n in range(10)
    ]
    return "Sure!\n" + json.dumps(texts)


def explorer(reply: Callable[[str, int], str], **fields: Any) -> Explorer:
    given_ = {"judge": "j", "task": "geography puzzles", "prompts": 10, **fields}
    return Explorer(Explore(**given_), asking(reply))


texts = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=8)


@given(texts, st.lists(texts, max_size=5), st.sampled_from([0.3, 0.7, 1.0]))
@settings(max_examples=60, deadline=None)
def test_pairs_that_are_skipped_by_length_could_not_be_alike(
    own: list[str], others: list[list[str]], threshold: float
) -> None:
    brute = any(rouge_l(own, other) > threshold for other in others)
    assert is_like_any(own, others, threshold) == brute
    for other in others:
        assert rouge_l(own, other) == pytest.approx(rouge_l(other, own))


def test_rouge_l_of_known_pairs() -> None:
    assert rouge_l(rouge_words("the cat sat"), rouge_words("The cat, sat!")) == 1.0
    assert rouge_l(["a", "b", "c", "d"], ["a", "c", "e"]) == pytest.approx(4 / 7)
    assert rouge_l([], ["a"]) == 0.0


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ('["a", "b  c", 3, ""]', ["a", "b c"]),
        ('```json\n["a"]\n```', ["a"]),
        ('["a", "b', None),
        ("[__import__('os')]", None),
        ('{"a": 1}', None),
        ("[" * 100_000 + "]", None),
    ],
)
def test_replies_are_lists_of_texts_or_nothing(reply: str, found: Any) -> None:
    assert read_texts(reply) == found


@pytest.mark.parametrize(
    "reply",
    [
        lambda text, number: "no",
        lambda text, number: '["same task"]' if "sub-tasks" in text else '["Name three rivers"]',
        lambda text, number: "[" * number,
        lambda text, number: json.dumps([f"{number}"] * 50),
        inventive,
    ],
)
def test_it_ends_within_the_budget_whatever_is_replied(reply: Callable[[str, int], str]) -> None:
    made = explorer(reply, depth=3, children=4, max_requests=60)
    tasks = made.explore()
    assert made.requests <= 60 and tasks[0].path == ("geography puzzles",)
    assert all(len(task.children) <= 4 and len(task.prompts) <= 20 for task in tasks)
    names = [task.path[-1] for task in tasks]
    pairs = [(a, b) for n, a in enumerate(names) for b in names[:n]]
    assert all(rouge_l(rouge_words(a), rouge_words(b)) <= 0.7 for a, b in pairs)
    again = explorer(reply, depth=3, children=4, max_requests=60)
    assert [task.path for task in again.explore()] == [task.path for task in tasks]


def test_a_pruned_task_is_never_asked_about_and_gives_nothing() -> None:
    """Control: without pruning, the same replies fill the tree with the copies."""
    asked = []

    def reply(text: str, number: int) -> str:
        asked.append(text)
        if "sub-tasks" in text:
            copies = ["geography puzzles now", "puzzles of geography", "river lengths"]
            return json.dumps(copies if '"geography puzzles"' in text else [])
        return inventive(text, number)

    pruning = explorer(reply, depth=2, similarity=0.6)
    tasks = pruning.explore()
    left = {"geography puzzles", "geography puzzles now", "puzzles of geography", "river lengths"}
    assert {task.path[-1] for task in tasks} == left - set(tasks[0].pruned)
    assert tasks[0].pruned and pruning.pruned == len(tasks[0].pruned)
    drawn = draw_prompts(tasks, 1000, seed=0)
    for name in tasks[0].pruned:
        assert not any(f'task "{name}"' in text or f'about "{name}"' in text for text in asked)
        assert all(name not in task.path for task, _ in drawn)
    open_ = explorer(reply, depth=2, similarity=1.0)
    assert len(open_.explore()) == 4 and open_.pruned == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 40))
@settings(max_examples=80, deadline=None)
def test_shares_add_up_and_are_as_even_as_they_can_be(counts: list[int], total: int) -> None:
    found = even_shares(counts, total)
    assert sum(found) == min(total, sum(counts))
    assert all(0 <= one <= count for one, count in zip(found, counts, strict=True))
    short = [one for one, count in zip(found, counts, strict=True) if one < count]
    assert not short or max(found) - min(short) <= 1


def test_what_is_drawn_covers_the_tasks_better_than_level_order() -> None:
    """Control: the first prompts in level order, as the published code takes them."""
    tasks = explorer(inventive, depth=2, children=3, examples=10).explore()
    drawn = draw_prompts(tasks, 26, seed=1)
    in_order = [(task, prompt) for task in tasks for prompt in task.prompts][:26]
    assert len(drawn) == len({prompt for _, prompt in drawn}) == 26
    assert coverage(drawn)["tasks"] == len(tasks) == 13
    assert coverage(drawn)["effective_tasks"] == pytest.approx(13)
    assert coverage(in_order)["effective_tasks"] < 4
    assert draw_prompts(tasks, 26, seed=1) == drawn != draw_prompts(tasks, 26, seed=2)
    assert coverage([(ExploredTask(("a",)), "x y z")])["effective_tasks"] == pytest.approx(
        math.exp(0)
    )


@pytest.mark.parametrize(
    ("prompt", "usable"),
    [
        ("Name the longest river", True),
        ("Draw the longest river", False),
        ("Describe the picture below", False),
        ("Two words", False),
        ("- name a river", False),
        ("word " * 151, False),
    ],
)
def test_prompts_of_no_use_are_left_out(prompt: str, usable: bool) -> None:
    assert is_usable(prompt, Explore(judge="j", task="any", prompts=1)) == usable


def test_explored_prompts_are_a_dataset_of_the_run(
    write_recipe: Callable[..., Path], serve: Callable[..., CompletionServer], tmp_path: Path
) -> None:
    server = serve(lambda n, seen: chat_response(inventive(seen.body["messages"][0]["content"], n)))
    path = write_recipe(judges={"maker": {"model": "m", "engine": {"endpoints": [server.url]}}})
    explore = {"judge": "maker", "task": "geography puzzles", "prompts": 30, "depth": 1}
    own = [f"prompts.datasets.made={json.dumps({'explore': explore, 'domain_name': 'made'})}"]
    recipe = load_recipe(path, own)
    pipeline = Pipeline(recipe)
    assert next(iter(pipeline.stages)) == "explore/made"
    explore_dataset(recipe, "made")
    facts = read_manifest(pipeline.finished("explore/made"))
    assert facts["rows"] == 30 and facts["shortfall"] == 0 and facts["coverage"]["tasks"] >= 5
    make_prompts(recipe)
    rows = read_rows(pipeline.finished("prompts"))
    assert sum(row["domain"] == "made" for row in rows) == 30 and len(rows) == 30 + 12
    asked = len(server.seen)
    explore_dataset(load_recipe(path, [*own, "run=again"]), "made")  # nothing is paid for twice
    assert len(server.seen) == asked

    changed = load_recipe(path, [*own, "prompts.datasets.made.explore.depth=0"])
    assert Pipeline(changed).state("explore/made") == "stale" == Pipeline(changed).state("prompts")


def test_garbage_is_an_error_with_its_numbers_and_settings_are_checked(
    write_recipe: Callable[..., Path], serve: Callable[..., CompletionServer]
) -> None:
    def reply(_: int, seen: Seen) -> Reply:
        return chat_response("I cannot do that.")

    server = serve(reply)
    judges = {"maker": {"model": "m", "engine": {"endpoints": [server.url]}}}
    path = write_recipe(judges=judges)
    explore = {"judge": "maker", "task": "geography", "prompts": 3}
    own = f"prompts.datasets.made={json.dumps({'explore': explore})}"
    with pytest.raises(DataError, match=r"2 requests gave no usable prompt, 2 replies had no JSON"):
        explore_dataset(load_recipe(path, [own]), "made")
    with pytest.raises(RecipeError, match='explore.judge: no judge "other"'):
        load_recipe(path, [own, "prompts.datasets.made.explore.judge=other"])
    with pytest.raises(RecipeError, match="explore makes the prompts up"):
        load_recipe(path, [own, "prompts.datasets.made.path=x.jsonl"])
    with pytest.raises(RecipeError, match='nothing explores "words"'):
        explore_dataset(load_recipe(path, [own]), "words")


def test_the_plan_prices_a_full_tree(tmp_path: Path) -> None:
    extra = """
    judges:
      maker:
        model: m
        engine: {endpoints: ["http://h:1/v1"], input_price: 1.0, output_price: 2.0}
    """
    explore = {"judge": "maker", "task": "any", "prompts": 900, "depth": 1, "children": 3}
    own = f"prompts.datasets.world={json.dumps({'explore': explore})}"
    text = "prompts.datasets.world.path=(explored)"
    found = prices(pipeline_of(tmp_path, *SIZES, own, text, extra=extra))
    assert "15 calls of judge maker" in str(found["explore/world"].terms)  # (1 + 4) x 3
    assert found["explore/world"].dollars > 0 and found["sample/letters"].gpu_hours > 0

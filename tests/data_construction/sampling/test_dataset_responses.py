"""Responses that come with the prompts, from the file to the table of responses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from data_construction.datasets.card import card
from data_construction.prompts import make_prompts
from data_construction.sampling.dataset_responses import GivenResponses
from wrpo.errors import DataError
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import RESPONSES, answer_of, read_parquet, read_rows
from wrpo.recipe import Recipe, load_recipe

ROWS = [
    {"text": "2 + 2?", "solution": "It is 4."},
    {"text": "Talk.", "solution": "Hello."},
    {"text": "2 + 2? ", "solution": [{"role": "assistant", "content": "It is 5."}]},
    {"text": "Write a Python function.", "solution": "def f(): pass"},
    *({"text": f"{n} + 1?", "solution": str(n + 1)} for n in range(8)),
    {"text": "2 + 2?", "solution": "  "},
    {"text": "2 + 2?"},
    {"no": "prompt"},
]


@pytest.fixture
def recipe_with_responses(
    write_recipe: Callable[..., Path], tmp_path: Path
) -> Callable[..., Recipe]:
    (tmp_path / "given.jsonl").write_text("\n".join(map(json.dumps, ROWS)))

    def load(**sections: object) -> Recipe:
        path = write_recipe(**sections)
        content = yaml.safe_load(path.read_text())
        content["prompts"]["datasets"]["given"] = {
            "path": str(tmp_path / "given.jsonl"),
            "prompt": "text",
            "responses": {"column": "solution", "source": "teacher"},
            "filters": {"remove_code": True},
        }
        path.write_text(yaml.safe_dump(content))
        recipe = load_recipe(path)
        make_prompts(recipe)
        return recipe

    return load


def test_rows_with_one_prompt_are_several_answers_to_it(recipe_with_responses) -> None:
    recipe = recipe_with_responses()
    GivenResponses(recipe, "teacher").run(Shard(1, 1))
    folder = Pipeline(recipe).finished("sample/teacher")
    prompts = read_rows(Pipeline(recipe).finished("prompts"))
    texts = {row["prompt_id"]: row["messages"][0]["content"].strip() for row in prompts}
    found: dict[str, list[tuple[int, str]]] = {}
    for row in read_rows(folder):
        found.setdefault(texts[row["prompt_id"]], []).append((row["index"], row["text"]))
        assert (row["source"], row["seed"], row["token_ids"]) == ("teacher", None, None)
    assert found["2 + 2?"] == [(0, "It is 4."), (1, "It is 5.")]
    assert found["Talk."] == [(0, "Hello.")] and len(found) == 10
    reasons = [row["detail"].split(": ", 1)[1] for row in read_parquet(folder / "dropped.parquet")]
    assert reasons[0] == "a response is empty" and 'no column "solution"' in reasons[1]


def test_a_prompt_that_an_earlier_dataset_has_too_keeps_its_answers(recipe_with_responses) -> None:
    recipe = recipe_with_responses()
    given = recipe.prompts.datasets["given"]
    twin = given.model_copy(update={"responses": None, "limit": 2})
    both = recipe.prompts.model_copy(update={"datasets": {"twin": twin, "given": given}})
    recipe = recipe.model_copy(update={"run": "twins", "prompts": both})
    make_prompts(recipe)
    prompts = read_rows(Pipeline(recipe).finished("prompts"))
    early = {row["prompt_id"] for row in prompts if row["origin"] == "twin"}
    responses, _ = GivenResponses(recipe, "teacher").responses()
    assert len(early) == 2 and early <= responses.keys() and len(responses) == 10


def test_with_a_limit_the_first_prompts_go_to_a_folder_of_their_own(recipe_with_responses) -> None:
    recipe = recipe_with_responses()
    for limit in (3, None):
        GivenResponses(recipe, "teacher", limit=limit).run(Shard(1, 1))
    whole = Pipeline(recipe).finished("sample/teacher")
    few = read_rows(whole.with_name("teacher.limit-3"))
    assert len({row["prompt_id"] for row in few}) == 3
    assert few == read_rows(whole)[: len(few)]


def test_shards_and_a_second_start_make_the_same_parts(recipe_with_responses, tmp_path) -> None:
    whole, halves = (recipe_with_responses(run=name) for name in ("whole", "halves"))
    GivenResponses(whole, "teacher").run(Shard(1, 1))
    GivenResponses(halves, "teacher").run(Shard(2, 2))
    assert Pipeline(halves).state("sample/teacher") == "partial"
    GivenResponses(halves, "teacher").run(Shard(1, 2))
    folders = [Pipeline(recipe).finished("sample/teacher") for recipe in (whole, halves)]
    assert len(list(folders[0].glob("part-*"))) == 3
    assert read_rows(folders[0]) == read_rows(folders[1])
    assert read_parquet(folders[0] / "dropped.parquet") == read_parquet(
        folders[1] / "dropped.parquet"
    )
    before = (folders[0] / "manifest.json").stat().st_mtime_ns
    GivenResponses(whole, "teacher").run(Shard(1, 1))
    assert (folders[0] / "manifest.json").stat().st_mtime_ns == before


def test_too_many_rows_without_an_answer_stop_the_stage(recipe_with_responses) -> None:
    recipe = recipe_with_responses(
        sample={"max_dropped_share": 0.1, "max_tokens": 8, "max_prompt_tokens": 8}
    )
    with pytest.raises(DataError, match="max_dropped_share"):
        GivenResponses(recipe, "teacher").run(Shard(1, 1))


def test_the_command_reads_them_and_says_what_it_would_do(
    recipe_with_responses, run_module
) -> None:
    recipe = recipe_with_responses()
    arguments = ("--recipe", recipe.runs.parent / "recipe.yaml", "--source", "teacher")
    told = run_module("data_construction.sample", *arguments, "--dry-run")
    assert told.returncode == 0 and "the responses of given" in told.stdout, told.stderr
    done = run_module("data_construction.sample", *arguments)
    assert done.returncode == 0, done.stderr
    assert Pipeline(recipe).state("sample/teacher") == "done"


def test_the_card_of_an_export_says_where_they_are_from(recipe_with_responses) -> None:
    rows = [{"prompt_id": "p", "source": "teacher", "score": 0.5}]
    manifest = {"key_digest": "k", "versions": {}}
    text = card(
        recipe_with_responses(),
        "sft",
        rows,
        manifest,
        layout="trl",
        file="train.jsonl",
        licence=None,
    )
    assert "| completion | teacher | its responses come with `given` | 1 | 0.5000 |" in text


def test_what_a_response_does_not_keep_is_refused_and_a_repeated_transcript_is_cut(
    write_recipe, tmp_path: Path
) -> None:
    asked = "Human: Hi\n\nAssistant:"
    rows = [
        {"text": asked, "solution": f"{asked} Hello"},
        {
            "text": "a",
            "solution": [{"role": "assistant", "content": "b", "tool_calls": [{"n": 1}]}],
        },
        {"text": "c", "solution": "d", "reasoning_content": "because"},
        {"text": "e", "solution": [{"role": "user", "content": "Other."}, {"from": "gpt"}]},
        {"text": "f", "solution": "g", "tools": [{"name": "get"}]},
        {"text": "h", "input": "2 and 3", "solution": "5", "licence": "mit"},
    ]
    (tmp_path / "given.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = write_recipe()
    content = yaml.safe_load(path.read_text())
    content["sample"]["max_dropped_share"] = content["prompts"]["max_dropped_share"] = 0.9
    content["prompts"]["datasets"] = {
        "given": {
            "path": str(tmp_path / "given.jsonl"),
            "prompt": "text",
            "responses": {"column": "solution", "source": "teacher"},
        }
    }
    path.write_text(yaml.safe_dump(content))
    recipe = load_recipe(path)
    make_prompts(recipe)
    prompts = Pipeline(recipe).finished("prompts")
    (refused,) = read_parquet(prompts / "dropped.parquet")
    assert "its column tools" in refused["detail"]
    unread = {"reasoning_content": 1, "licence": 1, "solution[].tool_calls": 1}
    assert read_manifest(prompts)["unread"] == unread
    asked_of = {row["prompt_id"]: row["messages"][-1]["content"] for row in read_rows(prompts)}
    GivenResponses(recipe, "teacher").run(Shard(1, 1))
    folder = Pipeline(recipe).finished("sample/teacher")
    said = {asked_of[row["prompt_id"]]: row["text"] for row in read_rows(folder)}
    assert said == {asked: " Hello", "h\n\n2 and 3": "5"}
    reasons = " ".join(row["detail"] for row in read_parquet(folder / "dropped.parquet"))
    assert all(name in reasons for name in ("tool_calls", "reasoning_content", "row 4"))


@pytest.mark.parametrize("thinking", ["auto", "on", "off"])
def test_thoughts_of_responses_of_a_dataset_are_as_the_recipe_says(
    thinking: str, recipe_with_responses, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = recipe_with_responses()
    rows = [{"text": "Talk.", "solution": "<think>\nhm\n</think>\n\nHello."}]
    (tmp_path / "given.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = load_recipe(
        tmp_path / "recipe.yaml",
        [f"run={thinking}", f"prompts.datasets.given.responses.thinking={thinking}"],
    )
    make_prompts(recipe)
    GivenResponses(recipe, "teacher").run(Shard(1, 1))
    (row,) = read_rows(Pipeline(recipe).finished("sample/teacher"), RESPONSES)
    assert row["text"] == rows[0]["solution"]
    assert answer_of(row) == ("Hello." if thinking == "on" else rows[0]["solution"])
    warned = "set prompts.datasets.given.responses.thinking to on" in caplog.text
    assert warned == (thinking == "auto")

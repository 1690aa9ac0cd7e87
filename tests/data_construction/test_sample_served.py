"""The sampling stage with a hosted model: rows without a tokenizer, drops, stops, resume."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Command
from tests.support.completion_server import CompletionServer, Reply, Seen, chat_response, problem
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import RESPONSES, answer_of, read_parquet, read_rows
from wrpo.recipe import load_recipe


class Script:
    """Refuses prompts that hold a word, responses the others; slow from the n-th request on.

    `bad` is the body of every fifth reply; with `cut`, every second response ends at max_tokens;
    `thought` comes apart from each answer; `credit` is the number of requests that the account pays
    for.
    """

    def __init__(self) -> None:
        self.refuse = "nothing"
        self.slow_from: int | None = None
        self.bad: Any = None
        self.cut = False
        self.thought = ""
        self.credit: int | None = None

    def __call__(self, number: int, seen: Seen) -> Reply:
        text = seen.body["messages"][-1]["content"]
        if self.refuse in text:
            return problem(400, "refused by policy")
        if self.credit is not None and number >= self.credit:
            return Reply({"error": {"message": "pay", "code": "insufficient_quota"}}, 429)
        if self.bad and number % 5 == 2:
            return Reply(self.bad)
        if self.thought:
            message = {"content": "yes", "reasoning_content": self.thought}
            usage = {"completion_tokens": 8, "completion_tokens_details": {"reasoning_tokens": 6}}
            choice = {"message": message, "finish_reason": "stop"}
            return Reply({"choices": [choice], "usage": usage})
        if self.cut and number % 2:
            return chat_response(f"echo {text}", finish_reason="length")
        slow = self.slow_from is not None and number >= self.slow_from
        return Reply(chat_response(f"echo {text}").body, seconds=20.0 if slow else 0.0)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def server(script: Script) -> Iterator[CompletionServer]:
    started = CompletionServer(script)
    yield started
    started.close()


@pytest.fixture
def recipe_path(server: CompletionServer, write_recipe, run_module) -> Path:
    """A recipe whose source is served, with its prompts made."""
    engine = {"backend": "openai", "api": "chat", "endpoints": [server.url], "concurrency": 1}
    hosted = {"model": "org/hosted", "engine": engine}
    path: Path = write_recipe(prompts=10, sources={"hosted": hosted})
    assert run_module("data_construction.prompts", "--recipe", path).returncode == 0
    return path


def command(path: Path) -> list[str]:
    return ["data_construction.sample", "--recipe", str(path), "--source", "hosted"]


@pytest.mark.slow
def test_a_hosted_source_needs_no_tokenizer_and_gives_rows_with_their_seeds(
    recipe_path: Path, server: CompletionServer, script: Script, run_module
) -> None:
    script.refuse = "moon"
    result = run_module(*command(recipe_path), "sample.max_dropped_share=0.3")
    assert result.returncode == 0, result.stderr
    folder = Pipeline(load_recipe(recipe_path)).finished("sample/hosted")
    rows = read_rows(folder)
    assert {row["seed"] for row in rows} <= {seen.body["seed"] for seen in server.seen}
    assert all(row["text"].startswith("echo Say") for row in rows)
    assert {(row["token_ids"], row["token_count"]) for row in rows} == {(None, 2)}
    dropped = read_parquet(folder / "dropped.parquet")
    assert len(dropped) + len(rows) == 20
    assert sorted(row["index"] for row in dropped) == [0, 1] * (len(dropped) // 2)
    assert {(row["reason"], row["detail"]) for row in dropped} == {
        ("refused", "400 refused by policy")
    }


def test_more_refusals_than_the_recipe_allows_stop_the_stage(
    recipe_path: Path, script: Script, run_module
) -> None:
    script.refuse = "moon"
    result = run_module(*command(recipe_path), "sample.max_dropped_share=0.05")
    assert result.returncode == 2
    assert "2 of 20 rows dropped (10%)" in result.stderr and "refused by policy" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("bad", [{"error": {"message": "Provider returned error"}}, "<html>"])
def test_http_200_without_a_response_loses_nothing(
    bad: Any, recipe_path: Path, script: Script, run_module
) -> None:
    script.bad = bad
    result = run_module(*command(recipe_path))
    assert result.returncode == 0, result.stderr
    assert len(read_rows(Pipeline(load_recipe(recipe_path)).finished("sample/hosted"))) == 20


@pytest.mark.slow
def test_a_thought_that_comes_apart_is_part_of_the_row_and_of_the_summary(
    recipe_path: Path, script: Script, run_module
) -> None:
    script.thought = "hm, so yes"
    result = run_module(*command(recipe_path))
    assert "75% of the tokens are thoughts" in result.stderr
    folder = Pipeline(load_recipe(recipe_path)).finished("sample/hosted")
    rows = read_rows(folder, RESPONSES)
    assert {row["text"] for row in rows} == {"<think>\nhm, so yes\n</think>\n\nyes"}
    assert {answer_of(row) for row in rows} == {"yes"}
    manifest = read_manifest(folder)
    assert manifest is not None and manifest["thinking_share"] == 0.75


@pytest.mark.slow
def test_the_last_line_and_the_manifest_say_how_the_responses_ended(
    recipe_path: Path, script: Script, run_module
) -> None:
    script.cut = True
    result = run_module(*command(recipe_path))
    assert "20 responses (length 10, stop 10; 50% cut at max_tokens)" in result.stderr
    assert "raise sample.max_tokens" in result.stderr
    manifest = read_manifest(Pipeline(load_recipe(recipe_path)).finished("sample/hosted"))
    assert manifest is not None and manifest["finish_reasons"] == {"length": 10, "stop": 10}


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_stopped_while_it_waits_it_keeps_full_parts_and_asks_only_for_the_rest(
    stop: signal.Signals,
    code: int,
    recipe_path: Path,
    server: CompletionServer,
    script: Script,
    run_module,
) -> None:
    script.slow_from = 11
    process = Command(*command(recipe_path))
    deadline = time.monotonic() + 60
    while len(server.seen) < 12 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(stop)
    assert process.wait(15) == code
    folder = Pipeline(load_recipe(recipe_path)).folder("sample/hosted")
    assert [path.name for path in folder.glob("part-*")] == ["part-00000.parquet"]
    script.slow_from = None
    first = {seen.body["seed"] for seen in server.seen[:11]}  # all that were answered
    asked = len(server.seen)
    assert run_module(*command(recipe_path)).returncode == 0
    again = {seen.body["seed"] for seen in server.seen[asked:]}
    assert len(again) == 9 and not first & again
    assert len(read_rows(folder)) == 20
    assert not list(folder.glob(".responses-*"))


@pytest.mark.slow
def test_a_stage_that_an_account_without_credit_stops_keeps_what_was_paid_for(
    recipe_path: Path, server: CompletionServer, script: Script, run_module
) -> None:
    script.credit = 11
    result = run_module(*command(recipe_path))
    assert result.returncode == 2 and "no credit" in result.stderr
    folder = Pipeline(load_recipe(recipe_path)).folder("sample/hosted")
    (kept,) = folder.glob(".responses-*")
    with kept.open("a") as file:
        file.write('{"prompt_id": "ha')  # as a killed process may leave it
    script.credit = None
    assert run_module(*command(recipe_path)).returncode == 0
    assert len(server.seen) == 11 + 1 + 9
    rows = read_rows(folder)
    assert len({(row["prompt_id"], row["index"]) for row in rows}) == 20
    assert all(row["text"].startswith("echo Say") for row in rows)
    assert not list(folder.glob(".responses-*"))

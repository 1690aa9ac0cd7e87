"""Judges: what is sent, kept, counted, and never asked twice."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.conftest import REPOSITORY
from tests.support.completion_server import (
    CompletionServer,
    Reply,
    Script,
    Seen,
    chat_response,
    problem,
)
from wrpo.errors import DataError, ModelError, RecipeError
from wrpo.judging import Judge, JudgementCache, JudgeModel, JudgeRequest

MakeJudge = Callable[..., Judge]


def ask_for(*texts: str, template: str = "plain-1", **fields: object) -> list[JudgeRequest]:
    return [
        JudgeRequest([{"role": "user", "content": text}], template=template, **fields)  # type: ignore[arg-type]
        for text in texts
    ]


def echo(number: int, seen: Seen) -> Reply:
    body = chat_response("on " + seen.body["messages"][-1]["content"]).body
    return Reply({**body, "usage": {"prompt_tokens": 10, "completion_tokens": 3}})


def test_a_request_carries_every_sampling_field_and_no_key(serve, judge: MakeJudge) -> None:
    server = serve(echo)
    settings = {"temperature": 0.3, "max_tokens": 9, "body": {"reasoning_effort": "low"}}
    judge(server, **settings).ask(ask_for("a", top_logprobs=5, seed=4))
    (seen,) = server.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.body == {
        "model": "org/judge",
        "messages": [{"role": "user", "content": "a"}],
        "n": 1,
        "temperature": 0.3,
        "top_p": 1.0,
        "max_tokens": 9,
        "logprobs": True,
        "top_logprobs": 5,
        "seed": 4,
        "reasoning_effort": "low",
    }
    assert "Authorization" not in seen.headers


def test_fields_that_a_model_refuses_are_not_sent(serve, judge: MakeJudge) -> None:
    server = serve(echo)
    judge(server, temperature=None, max_tokens=None).ask(ask_for("a", max_tokens=1))
    assert server.seen[0].body.keys() == {"model", "messages", "n"}


def test_the_protocol_may_set_temperature_and_length(serve, judge: MakeJudge) -> None:
    server = serve(echo)
    judge(server).ask(ask_for("a", temperature=1.0, max_tokens=1))
    assert (server.seen[0].body["temperature"], server.seen[0].body["max_tokens"]) == (1.0, 1)


def test_verdicts_come_in_order_and_equal_requests_are_asked_once(serve, judge: MakeJudge) -> None:
    server = serve(echo)
    one = judge(server, input_price=2.0, output_price=10.0)
    verdicts = one.ask(ask_for("a", "b", "a", "c"))
    assert [verdict.text for verdict in verdicts] == ["on a", "on b", "on a", "on c"]
    assert sorted(seen.body["messages"][0]["content"] for seen in server.seen) == ["a", "b", "c"]
    assert (one.used.judgements, one.used.cached) == (3, 0)
    assert (one.used.tokens.input, one.used.tokens.output) == (30, 9)
    assert one.used.dollars == pytest.approx((30 * 2.0 + 9 * 10.0) / 1e6)


def test_a_second_run_sends_only_what_is_missing(serve, judge: MakeJudge) -> None:
    server = serve(echo)
    first = judge(server).ask(ask_for("a", "b"))
    again = judge(server)
    second = again.ask(ask_for("b", "c", "a"))
    assert [seen.body["messages"][0]["content"] for seen in server.seen[2:]] == ["c"]
    assert [(one.text, one.cached) for one in second] == [
        ("on b", True),
        ("on c", False),
        ("on a", True),
    ]
    assert (second[2].text, second[2].input_tokens) == (first[0].text, first[0].input_tokens)
    assert (again.used.judgements, again.used.cached, again.used.sent) == (3, 2, 1)


@pytest.mark.parametrize(
    "other",
    [{"model": "org/other"}, {"version": "2"}, {"temperature": 0.1}, {"body": {"top_k": 1}}],
)
def test_another_judge_is_another_judgement(
    other: dict[str, object], serve, judge: MakeJudge
) -> None:
    server = serve(echo)
    judge(server).ask(ask_for("a"))
    judge(server, concurrency=3, retries=1, input_price=1.0).ask(ask_for("a"))
    assert len(server.seen) == 1
    judge(server, **other).ask(ask_for("a"))
    assert len(server.seen) == 2
    assert judge(server, **other).identity != judge(server).identity


def test_another_template_seed_or_protocol_is_another_judgement(serve, judge: MakeJudge) -> None:
    server = serve(echo)
    one = judge(server)
    for fields in ({}, {"template": "b"}, {"seed": 1}, {"seed": 2}, {"max_tokens": 1}):
        one.ask(ask_for("a", **fields))  # type: ignore[arg-type]
    assert len(server.seen) == 5


def test_log_probs_are_kept_in_the_cache(serve, judge: MakeJudge) -> None:
    top = [
        {"token": "m", "logprob": -0.25},
        {"token": "M", "logprob": -1.5},
        {"token": "m", "logprob": -9.0},
    ]
    server = serve(
        lambda number, seen: chat_response("m", logprobs={"content": [{"top_logprobs": top}]})
    )
    requests = ask_for("a", top_logprobs=3)
    fresh, kept = judge(server).ask(requests)[0], judge(server).ask(requests)[0]
    assert fresh.top_logprobs == kept.top_logprobs == ({"m": -0.25, "M": -1.5},)


def test_the_estimate_sends_nothing_and_learns_from_measured_judgements(
    serve, judge: MakeJudge
) -> None:
    server = serve(echo)
    one = judge(server, max_tokens=100, input_price=1.0, output_price=2.0)
    requests = ask_for("x" * 400, "y" * 40)
    before = one.estimate(requests)
    assert not server.seen
    assert (before.sent, before.tokens.input, before.tokens.output) == (2, 110, 200)
    assert before.dollars == pytest.approx((110 + 400) / 1e6)
    one.ask(requests[:1])  # 400 characters, 10 tokens in and 3 out
    after = one.estimate([*requests, *ask_for("z" * 80)])
    assert (after.judgements, after.cached) == (3, 1)
    assert (after.tokens.input, after.tokens.output) == (3, 6)
    assert "2 to ask" in str(after) and "$" in str(after)
    assert "no price known" in str(judge(server).estimate(requests))


def test_a_refused_request_has_no_verdict_and_is_not_cached(serve, judge: MakeJudge) -> None:
    def script(number: int, seen: Seen) -> Reply:
        if seen.body["messages"][0]["content"] == "bad":
            return problem(400, "policy")
        if seen.body["messages"][0]["content"] == "filtered":
            return chat_response("", finish_reason="content_filter")
        return echo(number, seen)

    server = serve(script)
    for expected in (3, 5):
        good, bad, filtered = judge(server, concurrency=1).ask(ask_for("a", "bad", "filtered"))
        assert good.text == "on a" and bad.text is None and filtered.text is None
        assert "policy" in bad.detail and "content_filter" in filtered.detail
        assert len(server.seen) == expected


def test_a_judge_that_refuses_everything_stops_early(serve, judge: MakeJudge) -> None:
    server = serve(lambda number, seen: problem(400, "max_tokens is too large"))
    with pytest.raises(ModelError, match=r"judges\.big: every request is refused.*too large"):
        judge(server, concurrency=1).ask(ask_for(*map(str, range(50))))
    assert len(server.seen) == 8


def by_text(replies: dict[str, Reply]) -> Script:
    return lambda number, seen: replies[seen.body["messages"][0]["content"]]


UNREADABLE = {
    "empty": chat_response(""),
    "blank": chat_response(" \n"),
    "null": chat_response(None),
    "cut": chat_response("[[7]] and", finish_reason="length"),
    "thoughts": chat_response("<think>[[7]]</think>"),
    "unclosed": chat_response("<think>[[7]]"),
    "apart": Reply(
        {"choices": [{"message": {"reasoning_content": "[[7]]"}, "finish_reason": "stop"}]}
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_reply_without_a_verdict_is_asked_for_again(kind: str, serve, judge: MakeJudge) -> None:
    replies = {"a": chat_response("[[4]]"), "b": UNREADABLE[kind]}
    server = serve(by_text(replies))
    first = judge(server).ask(ask_for("a", "b"))
    assert [bool(verdict.missing()) for verdict in first] == [False, True]
    assert judge(server).estimate(ask_for("a", "b")).cached == 1
    replies["b"] = chat_response("[[9]]")
    assert [one.answer for one in judge(server).ask(ask_for("a", "b"))] == ["[[4]]", "[[9]]"]
    assert len(server.seen) == 3
    judge(server).ask(ask_for("a", "b"))
    assert len(server.seen) == 3


def test_thoughts_are_kept_beside_what_the_judge_says(serve, judge: MakeJudge) -> None:
    parts = [{"type": "thinking", "thinking": "no"}, {"type": "text", "text": "[[9]]"}]
    replies = {
        "apart": Reply(
            {
                "choices": [
                    {
                        "message": {"content": "[[9]]", "reasoning_content": "[[1]]?"},
                        "finish_reason": "stop",
                    }
                ]
            }
        ),
        "inside": chat_response("<think>[[1]]?</think>[[9]]"),
        "parts": chat_response(parts),
    }
    server = serve(by_text(replies))
    for _ in range(2):
        apart, inside, in_parts = judge(server).ask(ask_for(*replies))
        assert {apart.answer, inside.answer, in_parts.answer} == {"[[9]]"}
        assert apart.thinks and inside.thinks and apart.thoughts == "[[1]]?"
    assert len(server.seen) == 3


def test_a_verdict_of_one_token_is_whole(serve, judge: MakeJudge) -> None:
    server = serve(lambda number, seen: chat_response("m", finish_reason="length"))
    for _ in range(2):
        assert judge(server).ask(ask_for("a", max_tokens=1))[0].answer == "m"
    assert len(server.seen) == 1


def test_a_judge_whose_replies_are_all_cut_stops_early(serve, judge: MakeJudge) -> None:
    server = serve(lambda number, seen: chat_response("<think>so", finish_reason="length"))
    with pytest.raises(ModelError, match=r"Raise judges\.big\.max_tokens \(2048\)"):
        judge(server, concurrency=1).ask(ask_for(*map(str, range(50))))
    assert len(server.seen) == 8


def test_caches_of_version_0_1_are_read(serve, judge: MakeJudge, tmp_path: Path) -> None:
    """Verdicts had fewer fields, and empty and cut replies were kept."""
    server = serve(echo)
    one = judge(server)
    one.ask(ask_for("a", "b", "c"))
    with sqlite3.connect(tmp_path / "cache.sqlite") as connection:
        rows = connection.execute("SELECT key, request, verdict FROM judgements").fetchall()
        for key, request, verdict in rows:
            fields = json.loads(verdict)
            del fields["tokens"], fields["thoughts"]
            text = json.loads(request)["messages"][0]["content"]
            fields |= {"b": {"text": ""}, "c": {"finish_reason": "length"}}.get(text, {})
            changed = (json.dumps(fields), key)
            connection.execute("UPDATE judgements SET verdict = ? WHERE key = ?", changed)
    again = judge(server)
    assert again.estimate(ask_for("a", "b", "c")).cached == 1
    assert [one.text for one in again.ask(ask_for("a", "b", "c"))] == ["on a", "on b", "on c"]
    assert len(server.seen) == 5
    assert again.estimate(ask_for("a", "b", "c")).cached == 3


@pytest.mark.slow
def test_what_was_judged_before_a_failure_is_kept(serve, judge: MakeJudge) -> None:
    server = serve(
        lambda number, seen: echo(number, seen) if number < 5 else problem(401, "who are you")
    )
    one = judge(server, concurrency=1)
    with pytest.raises(ModelError, match=r"Set judges\.big\.engine\.api_key_env"):
        one.ask(ask_for(*map(str, range(9))))
    assert one.estimate(ask_for(*map(str, range(9)))).cached == 5


def test_a_passing_failure_is_asked_again(serve, judge: MakeJudge) -> None:
    server = serve(lambda number, seen: echo(number, seen) if number else problem(503, "busy"))
    assert judge(server).ask(ask_for("a"))[0].text == "on a"


@pytest.mark.slow
def test_a_reply_of_another_api_and_a_broken_verdict_are_errors(serve, judge: MakeJudge) -> None:
    with pytest.raises(ModelError, match="not of the OpenAI API"):
        judge(serve(lambda number, seen: Reply({"answer": 1}))).ask(ask_for("a"))
    with pytest.raises(ModelError, match="broke off"):
        judge(serve(lambda number, seen: chat_response("x", finish_reason="abort"))).ask(
            ask_for("a")
        )


def test_the_key_comes_from_the_environment_and_is_kept_nowhere(
    serve, judge: MakeJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(echo)
    keyed = judge(server, api_key_env="JUDGE_KEY")
    with pytest.raises(RecipeError, match=r"judges\.big\.engine\.api_key_env"):
        keyed.ask(ask_for("a"))
    monkeypatch.setenv("JUDGE_KEY", "sk-secret-1")
    keyed.ask(ask_for("a"))
    assert server.seen[0].headers["Authorization"] == "Bearer sk-secret-1"
    assert b"sk-secret" not in (tmp_path / "cache.sqlite").read_bytes()


def test_a_damaged_cache_is_the_users_to_move_away(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match=r"cache\.sqlite"):
        JudgementCache(path)


@pytest.mark.parametrize(
    "field",
    [{"body": {"messages": []}}, {"engine": {"endpoints": []}}, {"modle": "x"}],
)
def test_the_recipe_section_refuses_what_it_cannot_mean(field: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        JudgeModel(**{"model": "m", "engine": {"endpoints": ["http://h/v1"]}, **field})


KILLED = """
import sys
from pathlib import Path
from wrpo.judging import Judge, JudgementCache, JudgeRequest
from wrpo.judging import JudgeModel
engine = {"endpoints": [sys.argv[1]], "concurrency": 2}
settings = JudgeModel(model="org/judge", engine=engine)
requests = [JudgeRequest([{"role": "user", "content": str(n)}], "plain-1") for n in range(30)]
Judge("big", settings, JudgementCache(Path(sys.argv[2]))).ask(requests)
"""


@pytest.mark.slow
def test_a_killed_process_loses_at_most_what_was_in_flight(
    serve, judge: MakeJudge, tmp_path: Path
) -> None:
    slow_from = 20

    def script(number: int, seen: Seen) -> Reply:
        return Reply(echo(number, seen).body, seconds=30.0 if number >= slow_from else 0.0)

    server: CompletionServer = serve(script)
    command = [sys.executable, "-c", KILLED, server.url, str(tmp_path / "cache.sqlite")]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=dict(os.environ))
    deadline = time.monotonic() + 60
    while len(server.seen) < 22 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    slow_from = 10**6
    verdicts = judge(server).ask(ask_for(*map(str, range(30))))
    assert [verdict.text for verdict in verdicts] == [f"on {n}" for n in range(30)]
    assert sum(verdict.cached for verdict in verdicts) == 20
    assert len(server.seen) == 32

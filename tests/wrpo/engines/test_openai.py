"""The client of OpenAI-compatible servers: what it sends, sends again, gives up on, and hides."""

from __future__ import annotations

import dataclasses
import logging
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.support.completion_server import Reply, Seen, chat_response, problem, response
from wrpo.engines import Completion, GenerationEngine, GenerationTask, Request, Unanswered
from wrpo.engines.openai import OpenAISettings
from wrpo.engines.servers import client as servers
from wrpo.engines.servers.replies import ENDINGS, ending
from wrpo.errors import ModelError, RecipeError
from wrpo.pipeline.tables import Drop
from wrpo.recipe.sampling import Model, Sampling

SECRET = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_FIRST_DELAY_S", 0.01)


FIELDS = ("temperature", "max_tokens", "top_k", "seed")


def requests(count: int) -> list[Request]:
    return [
        Request((0, n, 0), [1, 40 + n], [{"role": "user", "content": f"Say {n}."}], 1000 + n)
        for n in range(count)
    ]


def load(
    *urls: str,
    entry: dict[str, Any] | None = None,
    sampling: dict[str, Any] | None = None,
    **engine: Any,
) -> GenerationEngine:
    task = GenerationTask(
        "org/model",
        entry=Model(model="org/model", **(entry or {})),
        sampling=Sampling(**(sampling or {})).model_dump(),
        stop_token_ids=[3, 9],
        max_model_len=64,
    )
    return OpenAISettings(endpoints=list(urls), **engine).load(task)


def ask(*urls: str, count: int = 1, **settings: Any) -> list[Completion | Unanswered]:
    with closing(load(*urls, **settings)) as client:
        return list(client.generate(requests(count)))


def test_completions_send_the_prompt_ids_the_rows_seed_and_every_sampling_field(serve) -> None:
    server = serve(lambda number, seen: response())
    sampling = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "min_p": 0.1, "max_tokens": 30}
    ask(server.url, sampling={**sampling, "repetition_penalty": 1.1, "keep_logprobs": False})
    (seen,) = server.seen
    assert seen.path == "/v1/completions"
    assert seen.body == {
        **sampling,
        "model": "org/model",
        "prompt": [1, 40],
        "seed": 1000,
        "n": 1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": [3, 9],
        "return_token_ids": True,
    }
    assert "Authorization" not in seen.headers


def test_a_request_with_sampling_of_its_own_sends_that(serve) -> None:
    server = serve(lambda number, seen: response())
    own = Sampling(temperature=0.0, max_tokens=7, top_k=3)
    first, second = requests(2)
    with closing(load(server.url, concurrency=1)) as client:
        list(client.generate([first, dataclasses.replace(second, sampling=own.model_dump())]))
    fields = [[seen.body.get(name) for name in FIELDS] for seen in server.seen]
    assert fields == [[0.8, 4096, -1, 1000], [0.0, 7, 3, None]]


def test_chat_sends_messages_and_only_fields_of_the_openai_api(serve) -> None:
    server = serve(lambda number, seen: chat_response("Hello "))
    (got,) = ask(server.url, api="chat", served_model="big", sampling={"max_tokens": 30})
    (seen,) = server.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.body == {
        "model": "big",
        "messages": [{"role": "user", "content": "Say 0."}],
        "temperature": 0.8,
        "top_p": 0.95,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "max_tokens": 30,
        "seed": 1000,
        "n": 1,
    }
    assert got == Completion((0, 0, 0), "Hello ", None, 2, "stop", None)


def test_further_fields_of_a_source_are_sent_and_null_leaves_one_out(serve) -> None:
    server = serve(lambda number, seen: chat_response())
    body = {"reasoning_effort": "low", "max_completion_tokens": 90, "top_p": None, "seed": None}
    ask(server.url, api="chat", served_model="big", entry={"body": body})
    assert server.seen[0].body == {
        "model": "big",
        "messages": [{"role": "user", "content": "Say 0."}],
        "temperature": 0.8,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "max_completion_tokens": 90,
        "reasoning_effort": "low",
        "n": 1,
    }


@pytest.mark.parametrize("body", [{"messages": None}, {"temperature": 1.0}, {"stream": True}])
def test_fields_that_the_toolkit_sets_are_refused_as_further_ones(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(body))} is set by the toolkit"):
        Model(model="org/model", body=body)


@pytest.mark.parametrize("field", [{"top_k": 5}, {"min_p": 0.1}, {"repetition_penalty": 1.2}])
def test_chat_refuses_fields_that_its_api_cannot_express(field: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=next(iter(field))):
        ask("http://127.0.0.1:1/v1", api="chat", sampling=field)


def test_chat_refuses_a_chat_template_of_ones_own() -> None:
    with pytest.raises(RecipeError, match=r"own\.jinja"):
        ask("http://127.0.0.1:1/v1", api="chat", entry={"chat_template": "own.jinja"})


def test_log_probs_are_asked_for_and_summed(serve) -> None:
    sampling = {"keep_logprobs": True}
    plain = serve(lambda number, seen: response(logprobs={"token_logprobs": [-0.5, -0.25]}))
    chat = serve(
        lambda number, seen: chat_response(logprobs={"content": [{"logprob": -1.0}] * 3}),
    )
    assert ask(plain.url, sampling=sampling)[0].logprob == -0.75
    assert ask(chat.url, api="chat", sampling=sampling)[0].logprob == -3.0
    assert plain.seen[0].body["logprobs"] == 0 and chat.seen[0].body["logprobs"] is True
    without = serve(lambda number, seen: response())
    with pytest.raises(ModelError, match="keep_logprobs=false"):
        ask(without.url, sampling=sampling)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_a_passing_failure_is_sent_again_with_the_same_seed(status: int, serve) -> None:
    server = serve(lambda number, seen: problem(status) if number < 3 else response())
    assert [got.text for got in ask(server.url)] == ["yes"]
    assert [seen.body["seed"] for seen in server.seen] == [1000] * 4


@pytest.mark.slow
def test_a_request_that_takes_too_long_is_sent_again(serve) -> None:
    slow = Reply(response().body, seconds=3.0)
    server = serve(lambda number, seen: slow if number == 0 else response())
    assert len(ask(server.url, request_timeout_s=1.0)) == 1
    assert len(server.seen) == 2


def test_pauses_double(serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_FIRST_DELAY_S", 0.1)
    server = serve(lambda number, seen: problem(500) if number < 3 else response())
    ask(server.url)
    times = [seen.at for seen in server.seen]
    pauses = [later - sooner for sooner, later in pairwise(times)]
    assert all(pause >= least for pause, least in zip(pauses, [0.05, 0.1, 0.2], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_holds_back_every_request_to_that_server(as_date: bool, serve) -> None:
    def script(number: int, seen: Seen) -> Reply:
        if number:
            return response()
        wait = format_datetime(datetime.now(UTC) + timedelta(seconds=2)) if as_date else "0.6"
        return problem(429, Retry_After=wait)

    server = serve(script)
    assert len(ask(server.url, count=3, concurrency=1)) == 3
    # A date has whole seconds.
    assert server.seen[1].at - server.seen[0].at >= (0.9 if as_date else 0.6)


@pytest.mark.slow
def test_rate_limits_that_let_others_through_never_use_up_the_retries(serve) -> None:
    server = serve(lambda number, seen: response() if number % 4 == 0 else problem(429))
    assert len(ask(server.url, count=20, concurrency=20, retries=3)) == 20


def test_too_many_failures_stop_with_server_reason_and_what_to_do(serve) -> None:
    server = serve(lambda number, seen: problem(500, "engine died"))
    with pytest.raises(ModelError, match="engine died.*run the same command again") as caught:
        ask(server.url, retries=2)
    assert server.url in str(caught.value) and len(server.seen) == 3


def test_a_dead_server_is_passed_over_without_crowding_the_other(serve) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    server = serve(lambda number, seen: Reply(response().body, seconds=0.05))
    assert len(ask(dead, server.url, count=12, concurrency=2, retries=3)) == 12
    assert server.most_at_once == 2
    with pytest.raises(ModelError, match="ConnectError"):
        ask(dead, retries=1)


def test_each_server_gets_at_most_its_share_at_once_and_both_are_used(serve) -> None:
    reply = Reply(response().body, seconds=0.05)
    both = [serve(lambda number, seen: reply) for _ in range(2)]
    assert len(ask(*(server.url for server in both), count=24, concurrency=3)) == 24
    assert [server.most_at_once for server in both] == [3, 3]
    assert min(len(server.seen) for server in both) >= 6


@pytest.mark.slow
def test_answers_come_as_they_finish_and_requests_are_taken_only_when_there_is_room(serve) -> None:
    server = serve(
        lambda number, seen: Reply(
            response().body, seconds=1.0 if seen.body["prompt"] == [1, 40] else 0.0
        )
    )
    taken: list[int] = []

    def feed() -> Iterator[Request]:
        for number, request in enumerate(requests(6)):
            taken.append(number)
            yield request

    with closing(load(server.url, concurrency=2)) as client:
        responses = client.generate(feed())
        first = next(responses)
        assert first.row == (0, 1, 0) and taken == [0, 1]
        rest = [got.row[1] for got in responses]
    assert sorted(rest) == [0, 2, 3, 4, 5] and rest[-1] == 0


@pytest.mark.parametrize(
    ("status", "named"),
    [(401, "KEY_FOR_TESTS"), (403, "KEY_FOR_TESTS"), (404, "served_model"), (301, "endpoints")],
)
def test_what_no_request_can_pass_stops_when_it_comes_twice(
    status: int, named: str, serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_FOR_TESTS", SECRET)
    server = serve(lambda number, seen: problem(status, "not for you"))
    with pytest.raises(ModelError, match=named) as caught:
        ask(server.url, api_key_env="KEY_FOR_TESTS")
    assert server.url in str(caught.value) and "not for you" in str(caught.value)
    assert len(server.seen) == 2


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("at", [0, 3])
def test_one_such_status_among_responses_is_sent_again(status: int, at: int, serve) -> None:
    server = serve(lambda number, seen: problem(status) if number == at else response())
    assert {type(got) for got in ask(server.url, count=6, concurrency=1)} == {Completion}
    assert len(server.seen) == 7


def test_a_key_that_stops_to_work_stops_with_its_name(
    serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY_FOR_TESTS", SECRET)
    server = serve(lambda number, seen: problem(401) if number else response())
    with pytest.raises(ModelError, match="KEY_FOR_TESTS"):
        ask(server.url, count=3, concurrency=1, retries=2, api_key_env="KEY_FOR_TESTS")


def test_an_empty_account_stops_at_once(serve) -> None:
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    server = serve(lambda number, seen: Reply(body, 429))
    with pytest.raises(ModelError, match="no credit"):
        ask(server.url)
    assert len(server.seen) == 1


def test_a_page_instead_of_json_is_named(serve) -> None:
    server = serve(lambda number, seen: Reply("<html>Welcome</html>"))
    with pytest.raises(ModelError, match=r"not JSON.*engine\.endpoints.*Welcome"):
        ask(server.url, retries=2)
    shapeless = serve(lambda number, seen: Reply({"busy": True}))
    with pytest.raises(ModelError, match="not of the OpenAI API.*busy"):
        ask(shapeless.url, retries=2)


def choice(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"text": "yes", "finish_reason": "stop", **fields}]}


@pytest.mark.parametrize(
    "message",
    [
        {"content": "yes", "reasoning_content": "hm"},
        {"content": "yes", "reasoning": "hm"},
        {"content": "yes", "reasoning": None, "reasoning_content": "hm"},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "yes"},
            ]
        },
    ],
)
def test_a_thought_comes_apart_whatever_a_server_calls_it(message: dict[str, Any], serve) -> None:
    choices = [{"message": message, "finish_reason": "stop"}]
    usage = {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}
    server = serve(lambda number, seen: Reply({"choices": choices, "usage": usage}))
    (got,) = ask(server.url, api="chat")
    assert isinstance(got, Completion)
    assert (got.text, got.thought, got.thought_tokens, got.token_count) == ("yes", "hm", 6, 9)


@pytest.mark.parametrize("thought", [None, "", "  "])
def test_an_empty_thought_is_none(thought: str | None, serve) -> None:
    message = {"content": "yes", "reasoning_content": thought}
    choices = [{"message": message, "finish_reason": "stop"}]
    server = serve(lambda number, seen: Reply({"choices": choices}))
    assert ask(server.url, api="chat") == [Completion((0, 0, 0), "yes", None, None, "stop", None)]


def test_variables_of_the_chat_template_go_to_the_server_that_renders_it(serve) -> None:
    entry = {"thinking": {"chat_template_kwargs": {"enable_thinking": False}}}
    server = serve(lambda number, seen: chat_response())
    ask(server.url, api="chat", entry=entry)
    assert server.seen[0].body["chat_template_kwargs"] == {"enable_thinking": False}
    ids = serve(lambda number, seen: response())
    ask(ids.url, entry=entry)  # these are rendered here
    assert "chat_template_kwargs" not in ids.seen[0].body


NO_REPLIES = {
    "error object": {"error": {"message": "Provider returned error", "code": 502}},
    "error of no number": {"error": {"message": "Provider returned error", "code": "server"}},
    "error text": {"error": "busy"},
    "rate limit in the text": {"error": {"message": "slow down", "code": 429}},
    "key in the text": {"error": {"message": "no auth", "code": 401}},
    "no choices": {"choices": []},
    "choices are null": {"choices": None},
    "no choice": {"choices": [None]},
    "no text": {"choices": [{"finish_reason": "stop"}]},
    "no finish reason": {"choices": [{"text": "a"}]},
    "finish reason null": choice(finish_reason=None),
    "error in the choice": choice(finish_reason="error", error={"message": "died"}),
    "a list": [],
    "a number": 3,
    "page": "<html>Bad gateway</html>",
    "cut": '{"choices": [{"text": "ye',
    "nothing": " ",
    "text is no text": choice(text=["yes"]),
    "aborted": choice(finish_reason="abort"),
}


@pytest.mark.parametrize("body", NO_REPLIES.values(), ids=NO_REPLIES)
def test_a_reply_that_is_none_is_sent_again_like_a_502(body: Any, serve) -> None:
    server = serve(lambda number, seen: Reply(body) if number in (1, 2) else response())
    assert {type(got) for got in ask(server.url, count=4, concurrency=1)} == {Completion}
    assert len(server.seen) == 6


@pytest.mark.parametrize("bad", [problem(500, "died"), Reply({"error": "died"}), Reply("died")])
def test_a_request_that_fails_alone_is_dropped_and_the_rest_goes_on(bad: Reply, serve) -> None:
    server = serve(lambda number, seen: bad if seen.body["prompt"] == [1, 41] else response())
    got = {a.row[1]: a for a in ask(server.url, count=4, concurrency=1, retries=1)}
    dropped = got.pop(1)
    assert isinstance(dropped, Unanswered) and dropped.why.reason == "failed"
    assert "died" in dropped.why.detail
    assert {type(one) for one in got.values()} == {Completion}


def test_a_refusal_inside_http_200_is_a_refusal(serve) -> None:
    refused = Reply({"error": {"message": "too long", "code": 400}})
    server = serve(lambda number, seen: refused if number == 1 else response())
    got = ask(server.url, count=3, concurrency=1)
    assert [type(one) for one in got] == [Completion, Unanswered, Completion]
    assert got[1].why.reason == "refused" and len(server.seen) == 3


@pytest.mark.parametrize("answers", [0, 2])
def test_a_server_that_fails_for_every_prompt_stops_the_stage(answers: int, serve) -> None:
    broken = Reply({"error": "out of memory"})
    server = serve(lambda number, seen: response() if number < answers else broken)
    with pytest.raises(ModelError, match="out of memory.*run the same command again"):
        ask(server.url, count=40, concurrency=2, retries=1)
    assert len(server.seen) < 40


@pytest.mark.parametrize(
    ("words", "ended"),
    [
        ("stop eos eos_token stop_sequence end_turn STOP COMPLETE", "stop"),
        ("length max_tokens MAX_TOKENS model_length", "length"),
        ("content_filter SAFETY tool_calls function_call refusal anything-new", "withheld"),
        ("abort error null", "broken"),
    ],
)
def test_finish_reasons_of_other_servers_are_read(words: str, ended: str) -> None:
    assert {word: ending(word) for word in words.split()} == dict.fromkeys(words.split(), ended)
    assert ending(None) == "broken"
    assert all(word == word.lower() for word in ENDINGS)


@pytest.mark.parametrize(("word", "kept"), [("end_turn", "stop"), ("MAX_TOKENS", "length")])
def test_a_finish_reason_is_kept_in_one_spelling(word: str, kept: str, serve) -> None:
    (got,) = ask(serve(lambda number, seen: response(finish_reason=word)).url)
    assert isinstance(got, Completion) and got.finish_reason == kept


def test_one_refused_prompt_is_dropped_with_its_reason_and_the_rest_goes_on(serve) -> None:
    def script(number: int, seen: Seen) -> Reply:
        return problem(400, "too long") if seen.body["prompt"] == [1, 40] else response()

    got = {a.row[1]: a for a in ask(serve(script).url, count=4, concurrency=1)}
    assert got[0] == Unanswered((0, 0, 0), Drop("refused", "400 too long"))
    assert all(isinstance(got[n], Completion) for n in (1, 2, 3))


def test_a_filtered_answer_is_dropped_and_one_that_is_always_broken_off_stops(serve) -> None:
    server = serve(
        lambda number, seen: response(finish_reason="content_filter" if number else "stop")
    )
    filtered = ask(server.url, count=2, concurrency=1)[1]
    assert filtered == Unanswered((0, 1, 0), Drop("not_finished", "finish_reason content_filter"))
    broken = serve(lambda number, seen: response(finish_reason="abort"))
    with pytest.raises(ModelError, match="abort"):
        ask(broken.url, retries=2)


def test_half_a_surrogate_pair_is_refused_and_a_text_that_is_no_text_stops_the_stage(serve) -> None:
    server = serve(lambda number, seen: response("a \ud83d" if number else "a \U0001f600"))
    whole, half = ask(server.url, count=2, concurrency=1)
    assert whole.text == "a \U0001f600"
    assert isinstance(half, Unanswered) and half.why.reason == "not_unicode"
    broken = serve(lambda number, seen: response(text=[{"type": "text", "text": "hi"}]))
    with pytest.raises(ModelError, match="not of the OpenAI API"):
        ask(broken.url, retries=2)


def test_few_refused_prompts_are_no_proof_against_the_settings(serve) -> None:
    server = serve(lambda number, seen: problem(400, "too long"))
    assert {a.why.reason for a in ask(server.url, count=7)} == {"refused"}


@pytest.mark.slow
def test_an_engine_answers_again_and_remembers_that_it_has_answered(serve) -> None:
    server = serve(lambda number, seen: response() if number < 2 else problem(400, "too long"))
    with closing(load(server.url)) as client:
        assert {type(a) for a in client.generate(requests(2))} == {Completion}
        assert {a.why.reason for a in client.generate(requests(20))} == {"refused"}


@pytest.mark.parametrize("count", [8, 100])
def test_settings_that_every_request_is_refused_for_stop_the_stage(count: int, serve) -> None:
    server = serve(lambda number, seen: problem(400, "max_tokens is too large"))
    with pytest.raises(ModelError, match="every request is refused.*max_tokens is too large"):
        ask(server.url, count=count, concurrency=4)
    assert len(server.seen) < 16


def test_the_key_is_sent_and_shown_nowhere(
    serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("KEY_FOR_TESTS", SECRET)
    caplog.set_level(logging.DEBUG)
    server = serve(
        lambda number, seen: (
            problem(503, f"bad {SECRET}") if number == 0 else problem(401, f"wrong key {SECRET}")
        )
    )
    with pytest.raises(ModelError, match=r"wrong key \[API key\]") as caught:
        ask(server.url, api_key_env="KEY_FOR_TESTS")
    assert server.seen[0].headers["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in caplog.text + str(caught.value)
    assert "[API key]" in caplog.text


@pytest.mark.parametrize(("value", "problem_"), [(None, "not set"), ("a\nb", "one line")])
def test_a_missing_or_broken_key_is_refused_without_being_shown(
    value: str | None, problem_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KEY_FOR_TESTS", raising=False)
    if value is not None:
        monkeypatch.setenv("KEY_FOR_TESTS", value)
    with pytest.raises(RecipeError, match=f"KEY_FOR_TESTS.*{problem_}") as caught:
        ask("http://127.0.0.1:1/v1", api_key_env="KEY_FOR_TESTS")
    assert value is None or value not in str(caught.value)


def test_no_endpoint_is_an_error_that_shows_one() -> None:
    with pytest.raises(RecipeError, match="http://localhost:8000/v1"):
        ask()

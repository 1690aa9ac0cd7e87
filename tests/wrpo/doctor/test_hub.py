"""What the doctor says of models and data sets of a hub: a server that answers as the hub does."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from wrpo.doctor import models, services
from wrpo.doctor.checks import CheckContext, Finding
from wrpo.recipe import load_recipe

ANSWERS = {
    "open": (200, None),
    "gated": (403, "GatedRepo"),
    "missing": (404, "RepoNotFound"),
    "broken": (503, None),
}
"""Status and error code of the hub, by the name of a repository."""


class _Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = next((name for name in ANSWERS if f"/{name}" in self.path), "open")
        status, code = ANSWERS[name]
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(json.dumps({"id": f"org/{name}"}).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    from huggingface_hub import constants

    with HTTPServer(("127.0.0.1", 0), _Hub) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{http.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_ENDPOINT", url)
        yield url
        http.shutdown()


def context(path: Path, *overrides: str) -> CheckContext:
    return CheckContext(load_recipe(path, list(overrides)), offline=False, hub=True)


def of(subject: str, found: Iterator[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.subject == subject]


@pytest.mark.parametrize(
    ("name", "token", "level", "says"),
    [
        ("open", None, None, ""),
        ("gated", None, "problem", "hf auth login"),
        ("gated", "hf_own", "problem", "ask for access at"),
        ("broken", None, "warning", "does not answer for it"),
    ],
)
def test_a_model_of_the_hub(
    name: str,
    token: str | None,
    level: str | None,
    says: str,
    hub: str,
    write_recipe,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    asked = context(write_recipe(), f"sources.one.model=org/{name}")
    found = of(f"org/{name}", models.hub_token(asked))
    assert [finding.level for finding in found] == ([level] if level else [])
    assert all(says in f"{finding.message} {finding.remedy}" for finding in found)


@pytest.mark.parametrize(
    ("name", "level"), [("open", "ok"), ("missing", "problem"), ("broken", "warning")]
)
def test_a_data_set_of_the_hub(name: str, level: str, hub: str, write_recipe) -> None:
    asked = context(write_recipe(), f"prompts.datasets.words.path=org/{name}")
    [found] = of("prompts.datasets.words", services.datasets(asked))
    assert found.level == level and f"org/{name}" in found.message


def test_whether_the_hub_answers_is_asked_first(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert services.hub_responses()
    monkeypatch.setenv("HF_ENDPOINT", f"{hub}/broken")
    assert services.hub_responses()  # an error is an answer
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert not services.hub_responses()


def test_without_a_hub_only_cached_files_count(write_recipe) -> None:
    asked = CheckContext(load_recipe(write_recipe()), offline=False, hub=False)
    [_, found] = models.hub_token(asked)
    assert (found.level, found.message) == ("warning", "does not answer; cached files only")

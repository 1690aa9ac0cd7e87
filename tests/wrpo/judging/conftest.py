"""A stand-in server and a judge that asks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.completion_server import CompletionServer
from wrpo.engines.servers import client as openai_servers
from wrpo.judging import Judge, JudgementCache, JudgeModel
from wrpo.judging.settings import JudgeEngine


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_servers, "_FIRST_DELAY_S", 0.01)


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., Judge]:
    """Makes a judge of a server, on the one cache file of the test."""

    def make(server: CompletionServer, **settings: Any) -> Judge:
        names = settings.keys() & JudgeEngine.model_fields.keys()
        engine = {"endpoints": [server.url], **{name: settings.pop(name) for name in names}}
        fields = {"model": "org/judge", "engine": engine, **settings}
        return Judge("big", JudgeModel(**fields), JudgementCache(tmp_path / "cache.sqlite"))

    return make

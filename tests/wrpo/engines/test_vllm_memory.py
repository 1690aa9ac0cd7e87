"""Memory of vLLM on a CPU: what it is asked to take, and what is said when it is too much."""

from __future__ import annotations

from types import SimpleNamespace

import psutil
import pytest

from wrpo.engines.local import vllm_env
from wrpo.engines.vllm import VLLMSettings


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_env, "on_cpu", lambda: True)
    memory = SimpleNamespace(available=5 * 2**30, total=20 * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


def test_the_default_asks_for_what_is_free(cpu: None) -> None:
    assert VLLMSettings().arguments()["gpu_memory_utilization"] == pytest.approx(0.8 * 5 / 20)


def test_less_than_what_is_free_stays_as_it_is_written(cpu: None) -> None:
    settings = VLLMSettings(gpu_memory_utilization=0.1)
    assert settings.arguments()["gpu_memory_utilization"] == 0.1


def test_on_a_gpu_the_share_is_that_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_env, "on_cpu", lambda: False)
    assert VLLMSettings().arguments()["gpu_memory_utilization"] == 0.9


def test_the_message_names_the_keys_of_the_recipe(cpu: None) -> None:
    said = "Available memory on node 0 (5.0/20.0 GiB) on startup is less than desired"
    assert "engine.kv_cache_mib" in vllm_env.memory_advice(ValueError(said))
    assert vllm_env.memory_advice(ValueError("no such file")) == ""

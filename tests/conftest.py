"""A small fusion run in a temporary folder: two sources, a target, a reward model, real recipes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.completion_server import CompletionServer, Script

REPOSITORY = Path(__file__).parents[1]
WORDS = ["sea", "hill", "moon", "tree", "bird", "rain", "sand", "leaf"]


def hear_ctrl_c() -> None:
    """For preexec_fn: what a shell starts in the background ignores SIGINT, children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def serve() -> Iterator[Callable[[Script], CompletionServer]]:
    """Starts stand-in servers that answer by a script, and ends them after the test."""
    started: list[CompletionServer] = []

    def start(script: Script) -> CompletionServer:
        started.append(CompletionServer(script))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def tiny_models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `one`, `two`, `target` (causal) and `reward` (one label)."""
    from tests.tiny_models import VLLM_SHAPE, save_tiny, save_tiny_reward

    folder = tmp_path_factory.mktemp("models")
    save_tiny(folder / "one", "llama", seed=1, **VLLM_SHAPE)
    save_tiny(folder / "two", "qwen2", seed=2, **VLLM_SHAPE)
    save_tiny(folder / "target", "llama", seed=3, **VLLM_SHAPE)
    save_tiny_reward(folder / "reward")
    return folder


@pytest.fixture
def write_recipe(tmp_path: Path, tiny_models_folder: Path) -> Callable[..., Path]:
    """Writes prompts and a recipe into tmp_path; keyword arguments replace top-level sections."""

    def write(prompts: int = 12, **sections: object) -> Path:
        lines = [
            {"text": f"Say {WORDS[n % 8]} {n}.", "gold": WORDS[n % 8], "kind": f"k{n % 2}"}
            for n in range(prompts)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "prompts.jsonl").write_text(text)
        recipe = {
            "run": "test",
            "runs": str(tmp_path / "runs"),
            "seed": 7,
            "sources": {
                name: {"model": str(tiny_models_folder / name), "dtype": "float32"}
                for name in ("one", "two")
            },
            "target": {"model": str(tiny_models_folder / "target")},
            "prompts": {
                "datasets": {
                    "words": {
                        "path": str(tmp_path / "prompts.jsonl"),
                        "prompt": "text",
                        "answer": "gold",
                        "domain": "kind",
                    }
                }
            },
            "sample": {
                "responses": 2,
                "max_tokens": 8,
                "max_prompt_tokens": 120,
                "chunk_prompts": 4,
                "engine": {"enforce_eager": True, "kv_cache_mib": 64},
            },
            "rewards": {
                "style": {
                    "type": "classifier",
                    "model": str(tiny_models_folder / "reward"),
                    "dtype": "float32",
                }
            },
            **sections,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        return path

    return write


@pytest.fixture
def run_module() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m MODULE ARGUMENTS` from the repository and returns the finished process."""

    def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=1200,
        )

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: with two processes, a long test at the end runs alone."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)

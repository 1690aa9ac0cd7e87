"""A small fusion run in a temporary folder: two sources, a target, a reward model, real recipes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests.support import commands, small_run
from tests.support.command_server import FAST_PYTHON, keep_out_of_collections
from tests.support.commands import REPOSITORY as REPOSITORY
from tests.support.completion_server import CompletionServer, Script
from tests.support.small_run import WORDS as WORDS

if TYPE_CHECKING:
    from execnet import XSpec


def hear_ctrl_c() -> None:
    """For preexec_fn: what a shell starts in the background ignores SIGINT, children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def pytest_configure(config: pytest.Config) -> None:
    """One command server for all processes of this test run; the first command starts it."""
    if commands.FOLDER not in os.environ:
        # Not in pytest's folders: the path of a socket may have 107 bytes.
        folder = tempfile.TemporaryDirectory(prefix="commands-", ignore_cleanup_errors=True)
        os.environ[commands.FOLDER] = folder.name
        os.environ["WRPO_TEST_PYTHON"] = sys.executable
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
        config.add_cleanup(folder.cleanup)
        config.add_cleanup(commands.stop_server)
    multiprocessing.set_executable(str(FAST_PYTHON))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list["XSpec"]) -> None:
    """Test processes are forks too, and so have loaded what nearly every test file imports."""
    commands.start_server()
    python = commands.FORKED_PYTHON
    specs[:] = [type(spec)(f"{spec}//id={spec.id}//python={python}") for spec in specs]


@pytest.fixture(scope="session", autouse=True)
def own_ray_folder() -> Iterator[None]:
    """Ray's default, /tmp/ray, may belong to another user, or to tests that run beside these."""
    # Not in pytest's folders: the paths of Ray's sockets may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as path:
        os.environ["RAY_TMPDIR"] = path
        yield


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
    from tests.support.tiny_models import VLLM_SHAPE, save_tiny, save_tiny_reward

    folder = tmp_path_factory.mktemp("models")
    save_tiny(folder / "one", "llama", seed=1, **VLLM_SHAPE)
    save_tiny(folder / "two", "qwen2", seed=2, **VLLM_SHAPE)
    save_tiny(folder / "target", "llama", seed=3, **VLLM_SHAPE)
    save_tiny_reward(folder / "reward")
    return folder


@pytest.fixture(scope="session")
def experts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `first` and `second`: models that know half of the facts of tests.support.experts."""
    from tests.support.experts import HALVES, answering, save_trained

    folder = tmp_path_factory.mktemp("experts")
    for name, known, seed in (("first", HALVES[0], 0), ("second", HALVES[1], 1)):
        save_trained(folder / name, answering(known), seed=seed)
    return folder


@pytest.fixture
def write_recipe(tmp_path: Path, tiny_models_folder: Path) -> Callable[..., Path]:
    """Writes prompts and a recipe into tmp_path; keyword arguments replace top-level sections."""
    return partial(small_run.write_recipe, tmp_path, tiny_models_folder)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, tiny_models_folder: Path) -> Path:
    """The recipe of a small run that one command has finished, made once for all test processes.

    Real vLLM, TRL and lm-eval on models with random weights. Read it, and write elsewhere.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "finished-run"
    with FileLock(shared / "finished-run.lock"):
        if not folder.exists():
            made = tmp_path_factory.mktemp("run")
            path = small_run.write_whole_recipe(made, tiny_models_folder)
            result = commands.run_module("wrpo", "run", "--jobs", 2, "--recipe", path)
            assert result.returncode == 0, result.stderr[-3000:]
            folder.symlink_to(made)
    return folder.resolve() / "recipe.yaml"


@pytest.fixture
def run_module() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m MODULE ARGUMENTS` from the repository and returns the finished process."""
    return commands.run_module


LOADED = pytest.StashKey[int]()
"""How many modules were there when garbage collections were last told to leave them out."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """The tests themselves are many objects, too."""
    keep_out_of_collections()
    session.config.stash[LOADED] = len(sys.modules)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """What a test has imported costs the later ones nothing: each training collects garbage."""
    if len(sys.modules) > item.config.stash[LOADED] + 50:
        keep_out_of_collections()
        item.config.stash[LOADED] = len(sys.modules)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: with two processes, a long test at the end runs alone.

    The first file that reads the finished run makes it, the others come last of the slow ones: one
    process would wait for the other.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    readers = [item.path for item in items if "finished_run" in getattr(item, "fixturenames", ())]
    later = set(readers) - set(readers[:1])
    first = [path for path in readers[:1] if path in slow]
    items.sort(key=lambda item: (item.path not in slow, item.path in later, item.path not in first))

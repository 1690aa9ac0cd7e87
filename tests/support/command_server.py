"""Runs commands in copies of a process that has the heavy packages loaded already.

`python -m MODULE` spends 6 to 17 seconds of processor time on importing torch, transformers, TRL,
vLLM and lm-eval. One server process per test run imports them once; every command is a fork of it,
with its own folder, environment, arguments and streams, and ends like any other process. None of
the toolkit's own code is loaded before the fork, so a changed copy of it can be run as well.

There are two servers. The first has what training needs, and pytest's own processes are its forks;
the second is a fork of it that loads the rest when the first command comes.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import multiprocessing
import os
import random
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.task_index import keep_task_index

FOR_TRAINING = (
    *("numpy", "pandas", "pyarrow.parquet", "pydantic", "yaml", "scipy.stats", "jinja2"),
    *("torch", "torch.utils.data", "transformers", "transformers.trainer", "tokenizers"),
    *("transformers.models.llama.modeling_llama", "transformers.models.qwen2.modeling_qwen2"),
    *("transformers.models.auto.modeling_auto", "transformers.generation.utils"),
    *("datasets", "accelerate", "peft", "trl.trainer.dpo_trainer", "trl.trainer.sft_trainer"),
    *("hypothesis.strategies", "matplotlib.figure", "matplotlib.backends.backend_svg", "chardet"),
)
FOR_COMMANDS = (
    *("vllm", "vllm.v1.engine.llm_engine", "vllm.v1.worker.cpu_worker"),
    *("vllm.model_executor.models.llama", "vllm.model_executor.models.qwen2"),
    *("lm_eval.evaluator", "lm_eval.models.huggingface", "lm_eval.models.vllm_causallms"),
)
PROCESSES, COMMANDS = "processes", "commands"
"""Names of the sockets: copies for pytest's processes, and for commands."""
MOST_STREAMS = 64
PR_SET_PDEATHSIG = 1
FAST_PYTHON = Path(__file__).with_name("fast_python")


def main(folder: Path) -> None:
    """Answers requests on the two sockets of a folder until whoever started it is gone."""
    _end_with_parent()
    listeners = [_listen(folder / name) for name in (PROCESSES, COMMANDS)]
    _load(FOR_TRAINING)
    if os.fork():
        listeners[1].close()
        serve(listeners[0])
    _end_with_parent()
    listeners[0].close()
    select.select([listeners[1]], [], [])
    _load(FOR_COMMANDS)
    if "lm_eval" in sys.modules:
        keep_task_index(folder)
    serve(listeners[1])


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.starting")
    listener.listen(16)
    Path(f"{path}.starting").rename(path)
    return listener


def _load(packages: Sequence[str]) -> None:
    for name in packages:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def serve(listener: socket.socket) -> None:
    """Starts what is asked for, one fork per request."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> None:
    """Starts the command in a fork of its own, tells its pid, then how it ended."""
    text, streams, _, _ = socket.recv_fds(connection, 1 << 20, MOST_STREAMS)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _run(streams, **json.loads(text))
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(f"{pid}\n".encode())
    code = _wait(pid, connection)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(f"{code}\n".encode())
    os._exit(0)


def _wait(pid: int, connection: socket.socket) -> int:
    """The exit code. Whoever asked for the command and is gone, as by SIGKILL, takes it along."""
    process = os.pidfd_open(pid)
    ended, _, _ = select.select([process, connection], [], [])
    if process not in ended:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _run(
    streams: list[int],
    *,
    arguments: list[str],
    numbers: list[int],
    folder: str,
    environment: dict[str, str],
    executable: str,
    session: bool,
) -> None:
    """Becomes `python ARGUMENTS`; never returns.

    Args:
        streams: the open files that came with the request.
        arguments: `-m MODULE`, `-c CODE` or FILE, and what follows.
        numbers: under which descriptor the command has each of the streams.
        executable: its `sys.executable`, and what multiprocessing spawns.
        session: whether it leads one of its own, so that a signal can reach all it has started.
    """
    code = 1
    try:
        if session:
            os.setsid()
        _place(streams, numbers)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        random.seed()
        sys.executable = executable
        multiprocessing.set_executable(executable)
        sys.path[0] = folder
        sys.path[1:1] = [path for path in environment.get("PYTHONPATH", "").split(":") if path]
        for name in [name for name in sys.modules if name.split(".")[0] == "tests"]:
            del sys.modules[name]
        _execute(*arguments)
        code = 0
    except SystemExit as end:
        code = _exit_code(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(code)


def _place(streams: Sequence[int], numbers: Sequence[int]) -> None:
    """Moves the streams to their numbers, by way of numbers that nobody has asked for."""
    above = max(*streams, *numbers) + 1
    for stream, number in zip([_moved(s, above) for s in streams], numbers, strict=True):
        os.dup2(stream, number)
        os.close(stream)


def _moved(stream: int, above: int) -> int:
    moved = fcntl.fcntl(stream, fcntl.F_DUPFD, above)
    os.close(stream)
    return moved


def _execute(first: str, *others: str) -> None:
    if first == "-m":
        sys.argv = list(others)
        runpy.run_module(others[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = [first, *others[1:]]
        module = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(others[0], "<string>", "exec"), module.__dict__)
    else:
        sys.argv = [first, *others]
        sys.path[0] = str(Path(first).parent)
        runpy.run_path(first, run_name="__main__")


def _exit_code(value: Any) -> int:
    if isinstance(value, str):
        sys.stderr.write(value + "\n")
        return 1
    return int(value or 0)


def _leave(code: int) -> None:
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Runs commands in copies of a process that has the heavy packages loaded already.

`python -m MODULE` spends 6 to 17 seconds of processor time on importing torch, transformers, TRL,
vLLM and lm-eval. One server process per test run imports them once; every command is a fork of it,
with its own folder, environment, arguments and streams, and ends like any other process.

There are two servers. The first has what training needs, and pytest's own processes are its forks;
the second is a fork of it that loads the rest when the first command comes, this checkout's own
code too. A command that runs in a changed copy of the code forgets that and imports the copy's.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import functools
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
from importlib.machinery import PathFinder
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
    *("torch.nn.attention.varlen", "deepspeed", "transformers.conversion_mapping"),
    *("hypothesis.strategies", "matplotlib.figure", "matplotlib.backends.backend_svg", "chardet"),
)
FOR_COMMANDS = (
    *("vllm", "vllm.v1.engine.llm_engine", "vllm.v1.worker.cpu_worker"),
    *("vllm.model_executor.models.llama", "vllm.model_executor.models.qwen2"),
    *("lm_eval.evaluator", "lm_eval.models.huggingface", "lm_eval.models.vllm_causallms"),
)
TOOLKIT = (
    *("data_construction.executors", "data_construction.executors.sampling"),
    *("data_construction.executors.scoring", "data_construction.filters"),
    *("wrpo.trainer", "wrpo.training.common", "wrpo.training.sft_trainer", "wrpo.plan.text"),
    *("wrpo.pipeline.pipeline", "wrpo.rewards.base", "wrpo.chat.render"),
)
OWN_PACKAGES = ("wrpo", "data_construction", "eval", "tests")
PROCESSES, COMMANDS = "processes", "commands"
"""Names of the sockets: copies for pytest's processes, and for commands."""
MOST_STREAMS = 64
PR_SET_PDEATHSIG = 1
REPOSITORY = Path(__file__).parents[2]
unfreeze = gc.unfreeze
FAST_PYTHON = Path(__file__).with_name("fast_python")


def main(folder: Path) -> None:
    """Answers requests on the two sockets of a folder until whoever started it is gone."""
    _end_with_parent()
    listeners = [_listen(folder / name) for name in (PROCESSES, COMMANDS)]
    _load(FOR_TRAINING)
    _keep_what_is_asked_again()
    if os.fork():
        listeners[1].close()
        serve(listeners[0])
    _end_with_parent()
    listeners[0].close()
    select.select([listeners[1]], [], [])
    _load(FOR_COMMANDS)
    if "lm_eval" in sys.modules:
        keep_task_index(folder)
    _load(TOOLKIT)
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
    if not Path("/dev/nvidiactl").exists():
        os.environ["DS_ACCELERATOR"] = "cpu"  # which DeepSpeed settles when it is imported
    for name in packages:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    keep_out_of_collections()


def _keep_what_is_asked_again() -> None:
    """transformers maps the weights of all models when it loads the first one, and keeps that;

    accelerate looks on the disk for installed packages hundreds of times in a small training.
    """
    from accelerate.utils import imports
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    get_checkpoint_conversion_mapping("llama")
    imports._is_package_available = functools.cache(imports._is_package_available)


def keep_out_of_collections() -> None:
    """What is there now costs no garbage collection any time, which vLLM forces often.

    Otherwise starting and ending a tiny engine takes 4 seconds, nearly all of it for the objects
    of imported packages; vLLM undoes a freeze whenever an engine ends.
    """
    gc.collect()
    gc.freeze()
    gc.unfreeze = lambda: None
    atexit.register(unfreeze)


def serve(listener: socket.socket) -> None:
    """Starts what is asked for, one fork per request: tells its pid, then how it ended.

    Whoever asked for a command and is gone, as by SIGKILL, takes it along.
    """
    pids: dict[socket.socket, int] = {}
    ends: dict[int, socket.socket] = {}
    while True:
        for ready in select.select([listener, *pids, *ends], [], [])[0]:
            if ready is listener:
                connection, _ = listener.accept()
                pids[connection] = _start(connection, unneeded=[listener, *pids, *ends])
                ends[os.pidfd_open(pids[connection])] = connection
            elif ready in ends:
                connection = ends.pop(ready)
                os.close(ready)
                _, status = os.waitpid(pids.pop(connection), 0)
                _tell(connection, os.waitstatus_to_exitcode(status))
                connection.close()
            elif ready in pids:
                os.kill(pids[ready], signal.SIGKILL)


def _start(connection: socket.socket, *, unneeded: Sequence[socket.socket | int]) -> int:
    """The pid of the fork that runs what the connection asks for."""
    text, streams, _, _ = socket.recv_fds(connection, 1 << 20, MOST_STREAMS)
    pid = os.fork()
    if pid == 0:
        for stream in (connection, *unneeded):
            os.close(stream if isinstance(stream, int) else stream.detach())
        _run(streams, **json.loads(text))
    for stream in streams:
        os.close(stream)
    _tell(connection, pid)
    return pid


def _tell(connection: socket.socket, number: int) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(f"{number}\n".encode())


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
        if environment.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "1":
            # By which engines name themselves; it looks for the title's place beside the old
            # environment. Where it has done so, Ray's own copy of it does not find that place.
            with contextlib.suppress(ImportError):
                importlib.import_module("setproctitle").getproctitle()
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        random.seed()
        sys.executable = executable
        multiprocessing.set_executable(executable)
        sys.path[0] = folder
        sys.path[1:1] = [path for path in environment.get("PYTHONPATH", "").split(":") if path]
        _forget(("tests",) if _is_own(sys.path) else OWN_PACKAGES)
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


def _is_own(paths: Sequence[str]) -> bool:
    """Whether `import wrpo` with these paths finds the code of this checkout."""
    found = PathFinder.find_spec("wrpo", list(paths))
    own = REPOSITORY / "wrpo" / "__init__.py"
    return found is None or Path(str(found.origin)).resolve() == own


def _forget(packages: Sequence[str]) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]


def _execute(first: str, *others: str) -> None:
    if first == "-m":
        sys.argv = list(others)
        sys.modules.pop(others[0], None)
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

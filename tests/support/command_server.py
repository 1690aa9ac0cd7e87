"""Runs the toolkit's commands in copies of a process that has the heavy packages loaded already.

`python -m MODULE` spends 6 to 17 seconds of processor time on importing torch, transformers, TRL,
vLLM and lm-eval. One server process per test run imports them once; every command is a fork of it,
with its own folder, environment, arguments and output, and ends like any other process. None of the
toolkit's own code is loaded before the fork, so a changed copy of it can be run as well.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

PACKAGES = (
    *("numpy", "pandas", "pyarrow.parquet", "pydantic", "yaml", "scipy.stats", "jinja2"),
    *("torch", "torch.utils.data", "transformers", "transformers.trainer", "tokenizers"),
    *("transformers.models.llama.modeling_llama", "transformers.models.qwen2.modeling_qwen2"),
    *("transformers.models.auto.modeling_auto", "transformers.generation.utils"),
    *("datasets", "accelerate", "peft", "trl.trainer.dpo_trainer", "trl.trainer.sft_trainer"),
    *("vllm", "vllm.v1.engine.llm_engine", "vllm.v1.worker.cpu_worker"),
    *("vllm.model_executor.models.llama", "vllm.model_executor.models.qwen2"),
    *("lm_eval.evaluator", "lm_eval.models.huggingface", "lm_eval.models.vllm_causallms"),
)
STREAMS = 3
"""Standard input, output and error, which come with each request."""
FAST_PYTHON = Path(__file__).with_name("fast_python")


def serve(path: str) -> None:
    """Responses requests on a Unix socket until it is killed."""
    for name in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.starting")
    listener.listen(16)
    Path(f"{path}.starting").rename(path)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _response(connection)
        connection.close()


def _response(connection: socket.socket) -> None:
    """Starts the command in a fork of its own, tells its pid, then how it ended."""
    text, streams, _, _ = socket.recv_fds(connection, 1 << 20, STREAMS)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _run(streams, **json.loads(text))
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(f"{pid}\n".encode())
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _run(
    streams: list[int], *, arguments: list[str], folder: str, environment: dict[str, str]
) -> None:
    """Becomes `python -m ARGUMENTS`; never returns."""
    code = 1
    try:
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        random.seed()
        sys.executable = str(FAST_PYTHON)
        sys.argv = list(arguments)
        sys.path[0] = folder
        sys.path[1:1] = environment.get("PYTHONPATH", "").split(os.pathsep)
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = _exit_code(end.code)
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(code)


def _exit_code(value: Any) -> int:
    if isinstance(value, str):
        sys.stderr.write(value + "\n")
        return 1
    return int(value or 0)


def _leave(code: int) -> None:
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])

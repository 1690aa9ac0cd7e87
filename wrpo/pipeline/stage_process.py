"""The processes in which `wrpo run` has stages made: new ones, or forks of a loaded one.

A stage of tiny models spends most of its time on importing torch, TRL and vLLM; a fork of a process
that has imported them (`preloaded`) starts at once. That is for CPUs: what has touched a GPU cannot
be forked. torch and vLLM read their environment when they are imported, so all forks get what vLLM
on a CPU wants, which is one thread, and compile nothing.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

PRELOADED = "wrpo.pipeline.preloaded"
StartStage = Callable[[Sequence[str], Path | None], "StageProcess"]
"""Starts `python -m COMMAND`; its output goes to the file, or where that of this process goes."""


class StageProcess(Protocol):
    """What `subprocess.Popen` and `multiprocessing.Process` have in common, by Popen's names."""

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def terminate(self) -> None: ...

    def wait(self) -> object: ...


def start_new(command: Sequence[str], log: Path | None) -> StageProcess:
    """In a new process."""
    line = [sys.executable, "-m", *command]
    if log is None:
        return subprocess.Popen(line)
    with log.open("wb") as output:
        return subprocess.Popen(line, stdout=output, stderr=subprocess.STDOUT)


class StartFork:
    """In a fork of one process that has imported what stages need."""

    def __init__(self) -> None:
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload([PRELOADED])

    def __call__(self, command: Sequence[str], log: Path | None) -> StageProcess:
        process = self._context.Process(target=_become, args=(command, log))
        process.start()
        return _Forked(process)


class _Forked:
    def __init__(self, process: BaseProcess) -> None:
        self._process = process

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def terminate(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        self._process.join()


def _become(command: Sequence[str], log: Path | None) -> None:
    """Goes on as `python -m MODULE ARGUMENTS`, with no trace of how it was started."""
    preloaded = sys.modules.get(PRELOADED)
    if preloaded:
        atexit.unregister(preloaded.leave_quietly)
    multiprocessing.set_start_method(None, force=True)
    if log is not None:
        with log.open("wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
    sys.argv = list(command)
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # which a forked process leaves out

"""SIGTERM ends a command like Ctrl-C: parts that are finished stay, children do not.

Batch systems send SIGTERM before they take a machine away (Slurm's time limit and preemption,
spot instances, `docker stop`).
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import NoReturn

import psutil

TERMINATED = 128 + signal.SIGTERM
_GRACE_S = 10.0

_came = False


class Terminated(KeyboardInterrupt):
    """SIGTERM; what cleans up after Ctrl-C cleans up after it too."""


def on_sigterm_stop() -> None:
    """From now on SIGTERM raises `Terminated` in the main thread, once."""
    signal.signal(signal.SIGTERM, _terminate)


def interrupt_imports_quietly() -> None:
    """Ctrl-C while the modules of a command are still being imported ends without a traceback."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.stderr.write("\nstopped\n")
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = hook


def sigterm_came() -> bool:
    """Whether an interruption began with SIGTERM; libraries turn `Terminated` into its parent."""
    return _came


def _terminate(number: int, frame: FrameType | None) -> None:
    global _came
    _came = True
    # A second signal must not interrupt the cleaning up; SIGKILL is there for that.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def end_children() -> None:
    """Ends every process that this one has started, and theirs: first SIGTERM, then SIGKILL."""
    children = [
        child for child in psutil.Process().children(recursive=True) if not _is_tracker(child)
    ]
    for child in children:
        _send(child, signal.SIGTERM)
    _, alive = psutil.wait_procs(children, timeout=_GRACE_S)
    for child in alive:
        _send(child, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=_GRACE_S)


def leave(code: int) -> NoReturn:
    """Leaves at once: collecting an engine's objects at exit costs seconds, and more in ruins."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_command(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
    """Runs a command to its end and returns its exit code; it does not outlive this process.

    Args:
        env: its environment; None: that of this process.

    `subprocess.run` would kill it outright on Ctrl-C, and what it has started would stay.
    """
    process = subprocess.Popen(command, env=env)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            end_children()


def _is_tracker(process: psutil.Process) -> bool:
    """multiprocessing's resource tracker ignores SIGTERM, and ends after those that it is for."""
    with suppress(psutil.Error):
        return any("multiprocessing.resource_tracker" in word for word in process.cmdline())
    return False


def _send(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@contextmanager
def keeping_signals() -> Iterator[None]:
    """Gives SIGTERM and SIGINT back to this program after a library has taken them."""
    ours = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)

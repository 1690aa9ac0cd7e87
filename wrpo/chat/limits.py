"""A limit of time and memory on chat templates, which are foreign code in this process.

One thread watches all renderings. It interrupts one that takes too long between two of its
operations, so that a loop without an end does end, on any thread.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from pathlib import Path
from types import TracebackType

SECONDS = 10.0
"""A rendering takes microseconds, and milliseconds where a message is a book."""

BYTES = 1 << 30
_POLL_SECONDS = 0.1


class TooMuch(Exception):
    """Raised inside of what is limited."""


class limited:
    """What runs inside is interrupted by `TooMuch` after so many seconds, or where the process
    grows by so many bytes meanwhile."""

    def __init__(self, seconds: float = SECONDS, grown_bytes: int = BYTES) -> None:
        self.seconds = seconds
        self.grown_bytes = grown_bytes
        self.thread = threading.get_ident()
        self.began = time.monotonic()
        self.began_bytes: int | None = None
        self.fired = False

    def __enter__(self) -> limited:
        _watch.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _watch.remove(self)

    def exceeded(self) -> bool:
        """Whether a limit is passed."""
        if time.monotonic() - self.began > self.seconds:
            return True
        now = _resident_bytes()
        if self.began_bytes is None:
            self.began_bytes = now
        return now - self.began_bytes > self.grown_bytes


class _Watch:
    """The thread that watches; a forked process starts its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: set[limited] = set()
        self._thread: threading.Thread | None = None

    def add(self, limit: limited) -> None:
        with self._lock:
            self._limits.add(limit)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def remove(self, limit: limited) -> None:
        with self._lock:
            self._limits.discard(limit)
            if limit.fired:
                _clear_interruption(limit.thread)

    def _run(self) -> None:
        while True:
            time.sleep(_POLL_SECONDS)
            with self._lock:
                for limit in self._limits:
                    if not limit.fired and limit.exceeded():
                        limit.fired = True
                        _interrupt(limit.thread)


def _interrupt(thread: int) -> None:
    raised = ctypes.py_object(TooMuch)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)


def _clear_interruption(this_thread: int) -> None:
    """Takes back an interruption that may not have come before what it was for ended.

    Setting none instead would leave the interpreter looking for one at every operation, and
    CPython 3.11 in a loop without end where something traces it, as a debugger does.
    """
    try:
        _interrupt(this_thread)
        while True:
            pass
    except TooMuch:
        pass


def _resident_bytes() -> int:
    """Memory of this process; 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


_watch = _Watch()


def _renew() -> None:
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_renew)

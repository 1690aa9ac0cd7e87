"""Feeds a process, reads it, and stops at a deadline or when it says too much."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Literal

_BLOCK = 65536
_LOOK_S = 0.025
"""The time between two looks at what a program holds."""


@dataclass(slots=True)
class Exchange:
    """What was read before the process ended, or before `stopped` says why it must be killed."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    stopped: Literal["timeout", "output", "memory"] | None = None


def exchange(
    process: subprocess.Popen[bytes],
    stdin: bytes,
    *,
    seconds: float,
    max_bytes: int,
    holds_too_much: Callable[[], bool] = lambda: False,
) -> Exchange:
    """Talks to a process with three pipes until it ends or is to be stopped; kills nothing.

    `max_bytes` is the limit of standard output and error together.
    """
    assert process.stdin and process.stdout and process.stderr
    result = Exchange()
    look = time.monotonic()
    deadline = look + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, result.stdout)
        selector.register(process.stderr, selectors.EVENT_READ, result.stderr)
        rest = _start_writing(selector, process.stdin, stdin)
        while selector.get_map() or process.poll() is None:
            for key in _ready(selector, process, max(0.0, min(look, deadline) - time.monotonic())):
                if key.data is None:
                    rest = _write(selector, process.stdin, rest)
                else:
                    _read(selector, key, max_bytes)
            now = time.monotonic()
            if now >= deadline:
                result.stopped = "timeout"
            elif len(result.stdout) + len(result.stderr) > max_bytes:
                result.stopped = "output"
            elif now >= look:
                look = now + _LOOK_S
                result.stopped = "memory" if holds_too_much() else None
            if result.stopped:
                break
    return result


def _ready(
    selector: selectors.BaseSelector, process: subprocess.Popen[bytes], seconds: float
) -> list[selectors.SelectorKey]:
    """The pipes with work; without any open, waits for the end of the process."""
    if selector.get_map():
        return [key for key, _ in selector.select(seconds)]
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return []


def _start_writing(selector: selectors.BaseSelector, pipe: IO[bytes], content: bytes) -> memoryview:
    os.set_blocking(pipe.fileno(), False)
    selector.register(pipe, selectors.EVENT_WRITE)
    return memoryview(content)


def _write(selector: selectors.BaseSelector, pipe: IO[bytes], rest: memoryview) -> memoryview:
    try:
        rest = rest[os.write(pipe.fileno(), rest[:_BLOCK]) :]
    except BrokenPipeError:  # the program has closed its standard input
        rest = rest[:0]
    except BlockingIOError:
        return rest
    if not rest:
        selector.unregister(pipe)
        pipe.close()
    return rest


def _read(selector: selectors.BaseSelector, key: selectors.SelectorKey, max_bytes: int) -> None:
    block = os.read(key.fd, min(_BLOCK, max_bytes + 1))
    key.data.extend(block)
    if not block:
        selector.unregister(key.fileobj)

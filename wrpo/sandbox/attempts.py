"""A program that tries to get out of the sandbox and past its limits; it runs inside, on its own.

Standard input is one JSON object: FILE (outside), PORT (of this machine), PARENT (a pid outside),
ENVIRONMENT (the names that it may have) and the limits by their names in `Limits`. It writes a JSON
list of what it could do, and then fills page tables until it is killed.
"""

import _thread
import ctypes
import fcntl
import json
import mmap
import os
import resource
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

_GIVEN: dict[str, Any] = {}
F_SETPIPE_SZ, M_ARENA_MAX = 1031, -8
READ, PRIVATE_ANONYMOUS_POPULATE = 1, 0x8022


def works(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, RuntimeError, MemoryError, ValueError):
        return False
    return True


def fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def open_a_socket() -> None:
    for family in range(64):
        if works(partial(socket.socket, family, socket.SOCK_STREAM)):
            return
    raise OSError


def start_threads() -> None:
    """One more than the limit, the first thread included."""
    end = _thread.allocate_lock()
    end.acquire()

    def wait() -> None:
        with end:
            pass

    _thread.stack_size(1 << 16)
    try:
        for _ in range(_GIVEN["threads"]):
            _thread.start_new_thread(wait, ())
    finally:
        end.release()


def hold_memory() -> None:
    mmap.mmap(-1, _GIVEN["memory_mib"] << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def make_files() -> None:
    with TemporaryDirectory() as folder:
        for number in range(_GIVEN["scratch_files"]):
            Path(folder, str(number)).touch()


def write_scratch() -> None:
    """Twice what there is room for, in files as large as files may be."""
    with TemporaryFile() as one, TemporaryFile() as two:
        for file in (one, two):
            os.posix_fallocate(file.fileno(), 0, _GIVEN["scratch_mib"] << 20)


def open_files() -> None:
    opened: list[int] = []
    try:
        while len(opened) <= _GIVEN["open_files"]:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def be_unlimited() -> None:
    """Where a limit that takes too long to try is not set, or can be raised."""
    kinds = {
        resource.RLIMIT_CPU: _GIVEN["cpu_s"] + 1,
        resource.RLIMIT_SIGPENDING: _GIVEN["threads"],
    }
    if all(resource.getrlimit(kind)[1] == limit for kind, limit in kinds.items()):
        resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def fill_page_tables() -> None:
    """Single pages, each so far from the others that it needs tables of its own."""
    libc = ctypes.CDLL(None)
    size, flags = ctypes.c_size_t(mmap.PAGESIZE), PRIVATE_ANONYMOUS_POPULATE
    for place in range(1 << 40, 1 << 46, 1 << 30):
        libc.mmap(ctypes.c_void_p(place), size, READ, flags, -1, ctypes.c_long(0))
    time.sleep(3600)  # who looks after it may come late on a busy machine


def escapes() -> list[str]:
    """What could be done."""
    attempts: dict[str, Callable[[], object]] = {
        "read a file outside": Path(_GIVEN["FILE"]).read_bytes,
        "write a file outside": Path(_GIVEN["FILE"]).touch,
        "reach the network": lambda: socket.create_connection(("127.0.0.1", _GIVEN["PORT"]), 0.5),
        "open a socket": open_a_socket,
        "start a process": fork,
        "signal its parent": lambda: os.kill(_GIVEN["PARENT"], 0),
        f"start more than {_GIVEN['threads']} threads": start_threads,
        f"hold more than {_GIVEN['memory_mib']} MiB": hold_memory,
        f"make more than {_GIVEN['scratch_files']} files": make_files,
        f"write more than {_GIVEN['scratch_mib']} MiB": write_scratch,
        f"open more than {_GIVEN['open_files']} files": open_files,
        "keep extended attributes": lambda: os.setxattr("/tmp", "user.wrpo", b"x"),
        "hold memory by shared maps": lambda: mmap.mmap(-1, 1 << 20),
        "enlarge a pipe": lambda: fcntl.fcntl(os.pipe()[1], F_SETPIPE_SZ, 1 << 20),
        "lift its limits": be_unlimited,
    }
    found = [name for name, attempt in attempts.items() if works(attempt)]
    return found + ["read the environment"] * bool(set(os.environ) - set(_GIVEN["ENVIRONMENT"]))


if __name__ == "__main__":
    # Else each thread reserves 64 MiB of the address space for itself, and keeps them: what is left
    # may be too little to fill page tables with.
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
    _GIVEN.update(json.load(sys.stdin))
    sys.stdout.write(json.dumps(escapes()))
    sys.stdout.flush()
    fill_page_tables()

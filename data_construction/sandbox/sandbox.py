"""Runs one untrusted Python program and says what became of it."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_construction.sandbox.bubblewrap import (
    ENVIRONMENT,
    Limits,
    bubblewrap_command,
    python_command,
)
from data_construction.sandbox.exchange import exchange
from data_construction.sandbox.probe import probe
from data_construction.sandbox.seccomp import filter_program
from wrpo.errors import SandboxError

Status = Literal["ok", "failed", "timeout", "memory", "output", "killed"]

_INFO_MILLISECONDS = 10_000
_CPU_SIGNALS = (signal.SIGXCPU, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program did.

    ok: it ended with exit code 0; failed: with another one; timeout: CPU or wall time was up;
    memory: it ended with a MemoryError; output: it wrote too much; killed: a signal ended it.
    """

    status: Status
    exit_code: int
    stdout: str
    stderr: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Started:
    process: subprocess.Popen[bytes]
    kill: Callable[[], None]


class Sandbox:
    """Runs programs one by one; may be shared by threads.

    `isolated=False` keeps the limits and drops every wall: a program can then read and write what
    the user can, reach the network and leave processes behind.

    Raises SandboxError where this machine cannot isolate programs; the walls are tried first.
    """

    def __init__(self, limits: Limits | None = None, *, isolated: bool = True) -> None:
        self.limits = limits or Limits()
        self._isolated = isolated
        if shutil.which("prlimit") is None:
            raise SandboxError("prlimit (util-linux) is not on the PATH; install util-linux")
        if isolated:
            if shutil.which("bwrap") is None:
                raise SandboxError(_refusal("bwrap is not on the PATH"))
            self._filter = filter_program()
            if problem := probe(self.run):
                raise SandboxError(_refusal(problem))

    def run(self, source: str, stdin: str = "") -> Outcome:
        """The outcome of a program; no program can make this raise or outlast its wall time."""
        start = time.monotonic()
        max_bytes = self.limits.output_kib << 10
        code = source.encode("utf-8", "surrogatepass")
        with self._started(code) as started:
            try:
                heard = exchange(
                    started.process,
                    stdin.encode("utf-8", "surrogatepass"),
                    seconds=self.limits.wall_s,
                    max_bytes=max_bytes,
                )
            finally:
                started.kill()
        stderr = heard.stderr.decode("utf-8", "replace")
        exit_code = _shell_exit_code(started.process.returncode)
        return Outcome(
            heard.stopped or _status(exit_code, stderr),
            exit_code,
            heard.stdout.decode("utf-8", "replace"),
            stderr,
            time.monotonic() - start,
        )

    @contextmanager
    def _started(self, code: bytes) -> Iterator[_Started]:
        start = _isolated(self.limits, self._filter, code) if self._isolated else None
        with start or _unprotected(self.limits, code) as started, started.process:
            yield started


@contextmanager
def _isolated(limits: Limits, seccomp: bytes, code: bytes) -> Iterator[_Started]:
    read_info, write_info = os.pipe()
    fds = [_file_of(code), _file_of(seccomp), write_info]
    try:
        command = bubblewrap_command(
            limits, program_fd=fds[0], seccomp_fd=fds[1], info_fd=write_info
        )
        process = _popen(command, pass_fds=fds)
    finally:
        for fd in fds:
            os.close(fd)
    try:
        yield _Started(process, lambda: _kill_namespace(process, read_info))
    finally:
        os.close(read_info)


@contextmanager
def _unprotected(limits: Limits, code: bytes) -> Iterator[_Started]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        program = Path(folder) / "program.py"
        program.write_bytes(code)
        environment = ENVIRONMENT | {"HOME": folder}
        command = python_command(limits, str(program))
        process = _popen(command, cwd=folder, env=environment)
        yield _Started(process, lambda: _kill_group(process))


def _popen(
    command: list[str],
    *,
    pass_fds: list[int] | None = None,
    cwd: str | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=pass_fds or (),
        cwd=cwd,
        env=env,
        start_new_session=True,
    )


def _file_of(content: bytes) -> int:
    """A file in memory, at its start, for a child to read."""
    fd = os.memfd_create("sandbox")
    with os.fdopen(fd, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _kill_namespace(process: subprocess.Popen[bytes], info: int) -> None:
    """Ends the first process of the namespace; the kernel then ends all others in it.

    To kill bwrap alone is not enough: a child that has not yet asked to die with it lives on.
    """
    said = select.poll()
    said.register(info, select.POLLIN)
    if process.poll() is None and said.poll(_INFO_MILLISECONDS):
        with suppress(ValueError, KeyError, ProcessLookupError):
            os.kill(json.loads(os.read(info, 4096))["child-pid"], signal.SIGKILL)
    process.kill()
    process.wait()


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _shell_exit_code(code: int) -> int:
    """128 + signal where a signal ended the process, as bwrap reports it."""
    return code if code >= 0 else 128 - code


def _status(exit_code: int, stderr: str) -> Status:
    if exit_code == 0:
        return "ok"
    if stderr.rstrip().rpartition("\n")[2].startswith("MemoryError"):
        return "memory"
    if exit_code - 128 in _CPU_SIGNALS:
        return "timeout"
    return "killed" if exit_code > 128 else "failed"


def _refusal(problem: str) -> str:
    return (
        f"cannot run untrusted programs safely here: {problem}. Install bubblewrap (package "
        "bubblewrap) and permit unprivileged user namespaces, score on another machine, or "
        'accept the risk in the recipe with rewards.NAME.sandbox: "none-i-accept-the-risk"'
    )

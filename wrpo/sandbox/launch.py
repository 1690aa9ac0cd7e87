"""Starts a program, isolated or not, such that it can always be ended."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wrpo.errors import SandboxError
from wrpo.sandbox.bubblewrap import (
    ENVIRONMENT,
    GO,
    PROGRAM,
    Limits,
    bubblewrap_command,
    python_command,
)
from wrpo.sandbox.users import map_users, spare_ids

_START_S = 30.0
_POLL_S = 0.002


class Started:
    """A process that is not isolated; killing it kills its process group."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def open_gate(self) -> bytes:
        """What must come before the program's standard input."""
        return b""

    def holds_too_much(self) -> bool:
        """Whether it holds more than its limits count."""
        return False

    def kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Isolated(Started):
    """A process of bwrap, which waits at a gate inside for one line of standard input.

    bwrap's processes die with this one only after they have asked the kernel for it; a program that
    started earlier could be left behind for ever. So the gate opens when they have asked, and if
    this process ends before, the gate reads the end of the input and everything inside ends.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        limits: Limits,
        *,
        info: int,
        users: int,
        ids: tuple[int, int] | None,
    ) -> None:
        super().__init__(process)
        self._page_tables = limits.page_tables_mib << 20
        self._info, self._users, self._ids = info, users, ids
        self._program: int | None = None
        self._first: int | None = None

    def open_gate(self) -> bytes:
        """The line that starts the program; SandboxError, and no program, where bwrap fails."""
        end = time.monotonic() + _START_S
        self._first = self._first_process()
        if self._first and self._ids:
            map_users(self._first, self._ids)
            os.write(self._users, GO)
        while self._first and self.process.poll() is None and time.monotonic() < end:
            if _is_settled(self._first):
                return GO
            time.sleep(_POLL_S)
        self.kill()
        assert self.process.stderr
        said = self.process.stderr.read(2000).decode("utf-8", "replace").strip()
        raise SandboxError(f"bwrap did not start a program ({said or 'it says nothing'})")

    def holds_too_much(self) -> bool:
        """Whether its page tables are too large, which no limit of the kernel counts.

        A page in each of the farthest corners of its address space costs a program 4 KiB of that,
        and the kernel up to 8 KiB more.
        """
        with suppress(OSError, IndexError, StopIteration):  # it has ended
            if self._program is None:
                children = Path(f"/proc/{self._first}/task/{self._first}/children").read_text()
                self._program = int(children.split()[0])
            return _page_tables(self._program) > self._page_tables
        return False

    def kill(self) -> None:
        """Ends the first process of the namespace; the kernel then ends all others in it."""
        if self._first and self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._first, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def _first_process(self) -> int | None:
        """The pid outside of what is process 1 inside."""
        ready = select.poll()
        ready.register(self._info, select.POLLIN)
        said = b""
        while b"}" not in said:  # bwrap writes its note piece by piece
            piece = os.read(self._info, 4096) if ready.poll(_START_S * 1000) else b""
            if not piece:  # bwrap ended before; its standard error says why
                return None
            said += piece
        return int(json.loads(said)["child-pid"])


def _is_settled(pid: int) -> bool:
    """Whether process 1 has its filter: bwrap sets it after asking to die with its parent."""
    try:
        return "Seccomp:\t2" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def _page_tables(pid: int) -> int:
    """Their size in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmPTE:"))


def end_orphans() -> None:
    """Ends what is left of callers that were killed while they started a program.

    A child of bwrap waits for bwrap before it has asked to die with it. Where bwrap is killed in
    these milliseconds, as it is with its caller, the child waits for ever; no program runs in it.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if _is_orphan(process):
                os.kill(int(process.name), signal.SIGKILL)


def _is_orphan(process: Path) -> bool:
    """Whether it is process 1 of a sandbox, and bwrap is not its parent."""
    if (process / "comm").read_text() != "bwrap\n":
        return False
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    first = status.get("NSpid", "").split()[1:] == ["1"]
    ours = PROGRAM.encode() in (process / "cmdline").read_bytes().split(b"\0")
    parent = process.with_name(status["PPid"]) / "comm"
    return first and ours and not (parent.exists() and parent.read_text() == "bwrap\n")


@contextmanager
def isolated(limits: Limits, seccomp: bytes, code: bytes) -> Iterator[Started]:
    """Starts an isolated program."""
    ids = spare_ids()
    read_info, write_info = os.pipe()
    read_users, write_users = os.pipe()
    fds = [_file_of(code), _file_of(seccomp), write_info, read_users]
    try:
        try:
            command = bubblewrap_command(
                limits,
                program_fd=fds[0],
                seccomp_fd=fds[1],
                info_fd=write_info,
                users_fd=read_users if ids else None,
            )
            process = _popen(command, pass_fds=fds)
        finally:
            for fd in fds:
                os.close(fd)
        with process:
            yield Isolated(process, limits, info=read_info, users=write_users, ids=ids)
    finally:
        os.close(read_info)
        os.close(write_users)


@contextmanager
def unprotected(limits: Limits, code: bytes) -> Iterator[Started]:
    """Starts a program with its limits only, in a temporary folder."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        program = Path(folder) / "program.py"
        program.write_bytes(code)
        command = python_command(limits, str(program))
        with _popen(command, cwd=folder, env=ENVIRONMENT | {"HOME": folder}) as process:
            yield Started(process)


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

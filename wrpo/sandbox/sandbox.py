"""Runs one untrusted Python program and says what became of it."""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from wrpo.errors import SandboxError
from wrpo.sandbox.bubblewrap import TOOLS, Limits
from wrpo.sandbox.exchange import exchange
from wrpo.sandbox.launch import end_orphans, isolated, unprotected
from wrpo.sandbox.probe import probe
from wrpo.sandbox.seccomp import filter_program

Status = Literal["ok", "failed", "timeout", "memory", "output", "killed"]

_PROBE_S = 30
_CPU_SIGNALS = (signal.SIGXCPU, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program did.

    ok: it ended with exit code 0; failed: with another one; timeout: CPU or wall time was up;
    memory: it ended with a MemoryError, or made the kernel hold too much; output: it wrote too
    much; killed: a signal ended it.
    """

    status: Status
    exit_code: int
    stdout: str
    stderr: str
    seconds: float


class Sandbox:
    """Runs programs one by one; may be shared by threads.

    `isolated=False` keeps the limits and drops every wall: a program can then read and write what
    the user can, reach the network and leave processes behind. `field` is the recipe field that a
    refusal names as the way to ask for that.

    Raises SandboxError where this machine cannot isolate programs; isolation is tried first.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        isolated: bool = True,
        field: str = "rewards.NAME.sandbox",
    ) -> None:
        self.limits = limits or Limits()
        self._isolated = isolated
        if shutil.which("prlimit") is None:
            raise SandboxError("prlimit (util-linux) is not on the PATH; install util-linux")
        if isolated:
            if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
                raise SandboxError(_refusal(f"{', '.join(missing)} not on the PATH", field))
            end_orphans()
            self._filter = filter_program()
            if problem := self._problem():
                raise SandboxError(_refusal(problem, field))

    def run(self, source: str, stdin: str = "") -> Outcome:
        """The outcome of a program, which cannot make this raise, nor outlast its wall time.

        Raises SandboxError where the program was not started: that is no fault of its own.
        """
        return self._run(source, stdin, self.limits)

    def _run(self, source: str, stdin: str, limits: Limits) -> Outcome:
        start = time.monotonic()
        code = source.encode("utf-8", "surrogatepass")
        start_program = isolated(limits, self._filter, code) if self._isolated else None
        with start_program or unprotected(limits, code) as started:
            try:
                heard = exchange(
                    started.process,
                    started.open_gate() + stdin.encode("utf-8", "surrogatepass"),
                    seconds=limits.wall_s,
                    max_bytes=limits.output_kib << 10,
                    holds_too_much=started.holds_too_much,
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

    def _problem(self) -> str | None:
        limits = replace(self.limits, cpu_s=_PROBE_S, wall_s=2.0 * _PROBE_S)
        try:
            return probe(partial(self._run, limits=limits), limits)
        except SandboxError as error:
            return str(error)


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


def _refusal(problem: str, field: str) -> str:
    return (
        f"cannot run untrusted programs safely here: {problem}. Install bubblewrap (package "
        "bubblewrap) and permit unprivileged user namespaces, use another machine, or accept the "
        f'risk in the recipe with {field}: "none-i-accept-the-risk"'
    )

"""A seccomp filter: one process with threads, and none of the kernel's riskier doors.

One process makes the limit on its address space a limit on the memory of the whole program, without
cgroups; it also ends fork bombs and daemons. All threads share one table of open files, so that the
limit on open files bounds what the kernel keeps behind them. The only sockets are pairs of AF_UNIX,
which asyncio wakes itself with: some families, AF_VSOCK for one, know no network namespaces.
"""

from __future__ import annotations

import errno
import platform
import socket
import struct

from wrpo.errors import SandboxError
from wrpo.sandbox import system_calls as calls

_CLONE_FILES, _CLONE_THREAD = 0x400, 0x10000
_UNSHARE = 2  # of close_range: a table of open files for this thread alone
_SHARED = 0x21  # of mmap: memory without a file that stays whole when most of it is unmapped
_HUGE = (14, 25)  # of madvise: pages of 2 MiB, which stay whole in the same way
_F_SETPIPE_SZ = 1031
_PR_SET_SECCOMP = 22
_X32_CALLS = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_DENY = _ERROR | errno.EPERM
_UNKNOWN = _ERROR | errno.ENOSYS
"""libc then tries an older call; behind clone3 is one whose arguments a filter can read."""


def filter_program(machine: str | None = None) -> bytes:
    """The filter as an array of struct sock_filter, for this machine by default.

    Raises SandboxError on a machine whose system calls are not listed here.
    """
    machine = machine or platform.machine()
    if machine not in calls.DENIED:
        raise SandboxError(
            f"the sandbox knows the system calls of {', '.join(calls.DENIED)}, not of {machine}; "
            "score code on such a machine"
        )
    threads = _CLONE_THREAD | _CLONE_FILES
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, calls.AUDIT[machine], then=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32_CALLS, otherwise=1),
        _step(_RETURN, _KILL),
        _step(_AT_LEAST, calls.LAST + 1, otherwise=1),
        _step(_RETURN, _UNKNOWN),
        *_response(calls.CLONE3, _UNKNOWN),
        *_by_argument(calls.CLONE[machine], 0, threads, then=_ALLOW, mask=threads),
        *_by_argument(calls.SOCKETPAIR[machine], 0, socket.AF_UNIX, then=_ALLOW),
        *_by_argument(calls.FCNTL[machine], 1, _F_SETPIPE_SZ, then=_DENY),
        *_by_argument(calls.MMAP[machine], 3, _SHARED, then=_DENY, mask=_SHARED),
        *_by_argument(calls.MADVISE[machine], 2, *_HUGE, then=_DENY),
        *_by_argument(calls.PRCTL[machine], 0, _PR_SET_SECCOMP, then=_DENY),
        *_by_argument(calls.CLOSE_RANGE, 2, _UNSHARE, then=_DENY, mask=_UNSHARE),
    ]
    for number in sorted(calls.DENIED[machine].values()):
        steps += _response(number, _DENY)
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _step(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction; `then` and `otherwise` are the steps that a comparison skips."""
    return struct.pack("HBBI", code, then, otherwise, value)


def _response(loaded: int, value: int) -> list[bytes]:
    """The response where the number loaded last, of a call or an argument, is this one."""
    return [_step(_EQUAL, loaded, otherwise=1), _step(_RETURN, value)]


def _by_argument(
    number: int, argument: int, *values: int, then: int, mask: int = 0xFFFFFFFF
) -> list[bytes]:
    """`then` where an argument of the call (its low 32 bits, masked) has one of these values.

    The other response otherwise. The kernel reads no more bits of the arguments asked for here.
    """
    others = _DENY if then == _ALLOW else _ALLOW
    body = [_step(_LOAD, _ARGUMENTS + 8 * argument), _step(_AND, mask)]
    for value in values:
        body += _response(value, then)
    body.append(_step(_RETURN, others))
    return [_step(_EQUAL, number, otherwise=len(body)), *body]

"""A seccomp filter: one process with threads, and none of the kernel's riskier doors.

One process makes the limit on its address space a limit on the memory of the whole program, without
cgroups; it also ends fork bombs and daemons. A limit on the number of processes would not do: the
kernel does not apply it to root.
"""

from __future__ import annotations

import errno
import platform
import struct

from wrpo.errors import SandboxError

_CLONE_THREAD = 0x10000
_X32_CALLS = 0x40000000

_LOAD, _EQUAL, _ABOVE, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000

# Shared numbers of the calls that are newer than the split of the tables.
_NEW = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_getfd": 438, "mount_setattr": 442, "memfd_secret": 447,
}  # fmt: skip
_DENIED = {
    "x86_64": _NEW | {
        "shmget": 29, "fork": 57, "vfork": 58, "semget": 64, "msgget": 68, "ptrace": 101,
        "syslog": 103, "pivot_root": 155, "chroot": 161, "mount": 165, "umount2": 166,
        "mq_open": 240, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272,
        "perf_event_open": 298, "name_to_handle_at": 303, "open_by_handle_at": 304,
        "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
        "memfd_create": 319, "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": _NEW | {
        "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "unshare": 97, "syslog": 116,
        "ptrace": 117, "mq_open": 180, "msgget": 186, "semget": 190, "shmget": 194,
        "add_key": 217, "request_key": 218, "keyctl": 219, "perf_event_open": 241,
        "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "memfd_create": 279,
        "bpf": 280, "userfaultfd": 282,
    },
}  # fmt: skip
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435


def filter_program(machine: str | None = None) -> bytes:
    """The filter as an array of struct sock_filter, for this machine by default.

    Raises SandboxError on a machine whose system calls are not listed here.
    """
    machine = machine or platform.machine()
    if machine not in _DENIED:
        raise SandboxError(
            f"the sandbox knows the system calls of {', '.join(_DENIED)}, not of {machine}; "
            "score code on such a machine"
        )
    denied = _ERROR | errno.EPERM
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, _AUDIT[machine], then=1),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
        _step(_ABOVE, _X32_CALLS, otherwise=1),
        _step(_RETURN, _KILL),
        # libc falls back to clone, whose flags a filter can read.
        *_response(_CLONE3, _ERROR | errno.ENOSYS),
    ]
    for number in sorted(_DENIED[machine].values()):
        steps += _response(number, denied)
    steps += [
        _step(_EQUAL, _CLONE[machine], otherwise=3),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_ANY_BIT, _CLONE_THREAD, then=1),
        _step(_RETURN, denied),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(steps)


def _step(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction; `then` and `otherwise` are the steps that a comparison skips."""
    return struct.pack("HBBI", code, then, otherwise, value)


def _response(number: int, value: int) -> list[bytes]:
    """What a call of this number returns."""
    return [_step(_EQUAL, number, otherwise=1), _step(_RETURN, value)]

"""The walls of the sandbox as one command line of bubblewrap (`bwrap`)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "/sandbox/program.py"
SCRATCH = "/tmp"
GO = b"go\n"
"""The line of standard input that opens the gate."""
_GATE = ["/bin/sh", "-c", 'read -r go && exec "$@"', "sh"]
ENVIRONMENT = {
    "HOME": SCRATCH,
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "utf-8",
}
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use."""

    cpu_s: int = 5
    wall_s: float = 15.0
    memory_mib: int = 1024
    scratch_mib: int = 32
    output_kib: int = 256
    threads: int = 64
    open_files: int = 64


def python_command(limits: Limits, program: str) -> list[str]:
    """The interpreter under its limits, which it cannot raise: all of them are hard."""
    scratch = limits.scratch_mib << 20
    return [
        "prlimit",
        f"--cpu={limits.cpu_s}:{limits.cpu_s + 1}",  # first SIGXCPU, a second later SIGKILL
        f"--as={limits.memory_mib << 20}",
        f"--fsize={scratch}",
        f"--nofile={limits.open_files}",
        f"--nproc={limits.threads}",  # not applied to root, whose threads the memory bounds
        "--core=0",
        "--memlock=0",
        "--",
        interpreter(),
        *("-s", "-P", "-B"),
        program,
    ]


def interpreter() -> str:
    """The Python behind the current environment; the environment's packages are not mounted."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(Path(sys.base_prefix) / "bin" / version)


def bubblewrap_command(
    limits: Limits, *, program_fd: int, seccomp_fd: int, info_fd: int
) -> list[str]:
    """Runs the program in namespaces of its own, on a read-only system with a small /tmp.

    There is no /proc, no network and no home; of /dev there are four harmless files.
    """
    command = ["bwrap", "--unshare-all", "--unshare-user", "--uid", "1000", "--gid", "1000"]
    command += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        command += ["--setenv", name, value]
    command += [*_system_mounts(), *_device_mounts()]
    command += ["--size", str(limits.scratch_mib << 20), "--tmpfs", SCRATCH]
    command += ["--perms", "0444", "--ro-bind-data", str(program_fd), PROGRAM]
    command += ["--remount-ro", "/", "--chdir", SCRATCH]
    command += ["--seccomp", str(seccomp_fd), "--info-fd", str(info_fd), "--"]
    return [*command, *_GATE, *python_command(limits, PROGRAM)]


def _system_mounts() -> list[str]:
    mounts = ["--ro-bind", "/usr", "/usr"]
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            mounts += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            mounts += ["--ro-bind", str(path), str(path)]
    mounts += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    prefix = str(Path(sys.base_prefix).resolve())
    if not Path(prefix).is_relative_to("/usr"):
        mounts += ["--ro-bind", prefix, prefix]
        if prefix != sys.base_prefix:
            mounts += ["--ro-bind", prefix, sys.base_prefix]
    return mounts


def _device_mounts() -> list[str]:
    return [word for path in _DEVICES for word in ("--dev-bind", path, path)]

"""Isolation of the sandbox as one command line of bubblewrap (`bwrap`)."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from wrpo.sandbox.users import INSIDE

PROGRAM = "/sandbox/program.py"
SCRATCH = "/tmp"
GO = b"go\n"
"""The line of standard input that opens the gate."""
_GATE = ["/bin/sh", "-c", 'read -r go && exec "$@"', "sh"]
TOOLS = ("bwrap", "mount", "prlimit", "setpriv", "unshare")
"""The commands that isolate: bubblewrap and util-linux."""
ENVIRONMENT = {
    "HOME": SCRATCH,
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "PYTHONHASHSEED": "0",
    "PYTHONIOENCODING": "utf-8",
}
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_COVERED = "/sys"
"""A folder that every machine has and bwrap does not need; only bwrap sees it covered."""
_DEVICES = ("/dev/null", "/dev/random", "/dev/urandom")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use."""

    cpu_s: int = 5
    wall_s: float = 15.0
    memory_mib: int = 1024
    scratch_mib: int = 32
    scratch_files: int = 1024
    output_kib: int = 256
    threads: int = 64
    open_files: int = 64

    @property
    def page_tables_mib(self) -> int:
        """Far more than dense memory of this size needs (a 512th), and within reach of a probe."""
        return min(64, self.memory_mib // 16)


def python_command(limits: Limits, program: str) -> list[str]:
    """The interpreter under its limits, which it cannot raise: all of them are hard."""
    scratch = limits.scratch_mib << 20
    return [
        "prlimit",
        f"--cpu={limits.cpu_s}:{limits.cpu_s + 1}",  # first SIGXCPU, a second later SIGKILL
        f"--as={limits.memory_mib << 20}",
        f"--fsize={scratch}",
        f"--nofile={limits.open_files}",
        f"--nproc={limits.threads}",
        f"--sigpending={limits.threads}",  # timers count here too
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
    limits: Limits, *, program_fd: int, seccomp_fd: int, info_fd: int, users_fd: int | None
) -> list[str]:
    """Runs the program in namespaces of its own, on a read-only system with a small /tmp.

    There is no /proc, no network and no home; of /dev there are three harmless files. With
    `users_fd` bwrap waits there until its user namespace has got users, and the program runs as the
    second of them; without, bwrap names the user that runs it.
    """
    command = [*_with_scratch(limits), "bwrap", "--unshare-all", "--unshare-user"]
    command += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--cap-drop", "ALL", *_users(users_fd)]
    for name, value in ENVIRONMENT.items():
        command += ["--setenv", name, value]
    command += [*_system_mounts(), *_device_mounts(), "--bind", _COVERED, SCRATCH]
    command += ["--perms", "0444", "--ro-bind-data", str(program_fd), PROGRAM]
    command += ["--remount-ro", "/", "--chdir", SCRATCH]
    command += ["--seccomp", str(seccomp_fd), "--info-fd", str(info_fd), "--", *_GATE]
    if users_fd is not None:
        ids = ["--reuid", str(INSIDE), "--regid", str(INSIDE)]
        command += ["setpriv", *ids, "--clear-groups", "--inh-caps=-all", "--"]
    return [*command, *python_command(limits, PROGRAM)]


def _with_scratch(limits: Limits) -> list[str]:
    """Goes on as the command behind it, which finds a small file system at `_COVERED`.

    bwrap's own tmpfs is bounded in bytes and not in files, each of which the kernel remembers.
    """
    size, files = limits.scratch_mib << 20, limits.scratch_files
    options = f"size={size},nr_inodes={files},mode=1777,nosuid,nodev"
    mount = f"mount -n -t tmpfs -o {options} scratch {_COVERED}"
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    # bwrap asks to die with its parent only after it has started a child, and waits for that child
    # for ever where this process was killed before; `end_orphans` has the rest.
    dies = ["setpriv", "--pdeathsig", "KILL", "--"]
    start = f'[ "$PPID" = {os.getpid()} ] && {mount} && exec "$@"'
    return ["unshare", *user, "--mount", "--", *dies, "/bin/sh", "-c", start, "sh"]


def _users(users_fd: int | None) -> list[str]:
    if users_fd is None:
        return ["--uid", str(INSIDE), "--gid", str(INSIDE)]
    capabilities = [word for name in ("SETUID", "SETGID") for word in ("--cap-add", f"CAP_{name}")]
    return ["--uid", "0", "--gid", "0", "--userns-block-fd", str(users_fd), *capabilities]


def _system_mounts() -> list[str]:
    mounts = ["--ro-bind", "/usr", "/usr"]
    for path in map(Path, _SYSTEM):
        if path.is_symlink():
            mounts += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            mounts += ["--ro-bind", str(path), str(path)]
    mounts += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    prefix = Path(sys.base_prefix).resolve()
    if not prefix.is_relative_to("/usr"):
        for place in dict.fromkeys([prefix, Path(sys.base_prefix)]):
            mounts += [*_folders_above(place), "--ro-bind", str(prefix), str(place)]
    return mounts


def _folders_above(path: Path) -> list[str]:
    """Open to all users; those that bwrap makes by itself need not be."""
    return [word for folder in path.parents[-2::-1] for word in ("--dir", str(folder))]


def _device_mounts() -> list[str]:
    devices = [word for path in _DEVICES for word in ("--dev-bind", path, path)]
    return ["--dir", "/dev", *devices]

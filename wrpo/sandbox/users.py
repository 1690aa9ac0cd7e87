"""As whom programs run when root runs the sandbox: the kernel limits no threads of root."""

from __future__ import annotations

import os
from pathlib import Path

from wrpo.errors import SandboxError

INSIDE = 1000
"""The user and the group that every program has, as it sees itself."""


def spare_ids() -> tuple[int, int] | None:
    """A user and a group of this machine for the programs of root; None where there is no need.

    Ordinary users have none to give away, and their limits hold. Nor has a root whose user
    namespace knows no second user: what it is outside decides, which the probe sees.
    """
    user, group = (_last_id(f"/proc/self/{kind}_map") for kind in ("uid", "gid"))
    return (user, group) if os.geteuid() == 0 and user and group else None


def _last_id(path: str) -> int:
    """The highest id of a user namespace."""
    ranges = [line.split() for line in Path(path).read_text().splitlines()]
    return max(int(first) + int(count) - 1 for first, _, count in ranges)


def map_users(pid: int, ids: tuple[int, int]) -> None:
    """Gives the new user namespace of a process root, to set up isolation, and the spare ids."""
    try:
        for kind, spare in zip(("uid", "gid"), ids, strict=True):
            Path(f"/proc/{pid}/{kind}_map").write_text(f"0 0 1\n{INSIDE} {spare} 1\n")
    except OSError as error:
        raise SandboxError(
            f"root cannot lend programs user {ids[0]} and group {ids[1]} ({error}), and for root "
            "itself no limit of threads holds; run as an ordinary user"
        ) from error

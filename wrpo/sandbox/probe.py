"""Tries isolation and limits of a sandbox with a program that wants out."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from wrpo.sandbox.bubblewrap import ENVIRONMENT, Limits

if TYPE_CHECKING:
    from wrpo.sandbox.sandbox import Outcome

_ATTEMPTS = Path(__file__).with_name("attempts.py")


def probe(run: Callable[[str, str], Outcome], limits: Limits) -> str | None:
    """Why programs are not contained by `run(source, stdin)`, or None."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        canary = Path(folder) / "canary"
        canary.write_text("inside")
        for path in (canary, canary.parent):  # no wall but the sandbox's is to protect it
            path.chmod(0o777)
        given = asdict(limits) | {
            "FILE": str(canary),
            "PORT": server.getsockname()[1],
            "PARENT": os.getpid(),
            "ENVIRONMENT": [*ENVIRONMENT, "PWD", "LC_CTYPE"],
        }
        outcome = run(_ATTEMPTS.read_text(), json.dumps(given))
    if outcome.status not in ("ok", "timeout", "memory") or not outcome.stdout:
        said = outcome.stderr.strip()[-300:] or f"exit code {outcome.exit_code}"
        return f"a trivial program ends with status {outcome.status} ({said})"
    escapes = json.loads(outcome.stdout)
    if outcome.status != "memory":
        escapes.append(f"fill more than {limits.page_tables_mib} MiB of page tables")
    return f"a program inside can {', '.join(escapes)}" if escapes else None

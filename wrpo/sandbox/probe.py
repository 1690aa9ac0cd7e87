"""Tries the walls of a sandbox with a program that wants out."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wrpo.sandbox.sandbox import Outcome

_PROGRAM = """
import json, os, socket, sys

def works(attempt):
    try:
        attempt()
    except OSError:
        return False
    return True

def read_file():
    with open(FILE) as file:
        file.read()

def write_file():
    with open(FILE + ".new", "w") as file:
        file.write("out")

def connect():
    socket.create_connection(("127.0.0.1", PORT), timeout=0.5)

def fork():
    if os.fork() == 0:
        os._exit(0)

attempts = {
    "read a file outside": read_file,
    "write a file outside": write_file,
    "reach the network": connect,
    "start a process": fork,
    "signal its parent": lambda: os.kill(PARENT, 0),
}
escapes = [name for name, attempt in attempts.items() if works(attempt)]
if set(os.environ) - set(ENVIRONMENT):
    escapes.append("read the environment")
print(json.dumps(escapes))
"""


def probe(run: Callable[[str], Outcome]) -> str | None:
    """Why programs are not isolated by `run`, or None."""
    from wrpo.sandbox.bubblewrap import ENVIRONMENT

    known = [*ENVIRONMENT, "PWD", "LC_CTYPE"]
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as server:
        canary = Path(folder) / "canary"
        canary.write_text("inside")
        names = {
            "FILE": str(canary),
            "PORT": server.getsockname()[1],
            "PARENT": os.getpid(),
            "ENVIRONMENT": known,
        }
        header = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        outcome = run(header + _PROGRAM)
    if outcome.status != "ok":
        said = outcome.stderr.strip()[-300:] or f"exit code {outcome.exit_code}"
        return f"a trivial program ends with status {outcome.status} ({said})"
    escapes = json.loads(outcome.stdout)
    return f"a program inside can {', '.join(escapes)}" if escapes else None

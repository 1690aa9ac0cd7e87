"""Runs untrusted programs and returns their results.

sandbox.py     Sandbox: one program, its limits, its outcome
bubblewrap.py  isolation: namespaces, mounts and limits as one command line
users.py       as whom the programs of root run
seccomp.py     the filter of system calls
system_calls.py   the calls that stay closed, by machine
launch.py      starts a program such that it can always be ended
exchange.py    standard input and output, with a deadline and limits
probe.py       tries isolation and limits before the first program runs
attempts.py    the program that the probe runs inside
"""

from wrpo.sandbox.bubblewrap import Limits
from wrpo.sandbox.sandbox import Outcome, Sandbox, Status

__all__ = ["Limits", "Outcome", "Sandbox", "Status"]

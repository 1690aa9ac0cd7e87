"""Runs untrusted programs and returns their results.

sandbox.py     Sandbox: one program, its limits, its outcome
bubblewrap.py  the walls: namespaces, mounts and limits as one command line
seccomp.py     the system calls that stay closed
launch.py      starts a program such that it can always be ended
exchange.py    standard input and output, with a deadline and a limit
probe.py       tries the walls before the first program runs
unit_test.py   one program and the code that tests it
"""

from wrpo.sandbox.bubblewrap import Limits
from wrpo.sandbox.sandbox import Outcome, Sandbox, Status, failure

__all__ = ["Limits", "Outcome", "Sandbox", "Status", "failure"]

"""One program and the code that tests it, in one run."""

from __future__ import annotations

import secrets

from wrpo.sandbox.sandbox import Sandbox


def failure(sandbox: Sandbox, program: str, test: str) -> str | None:
    """None where the test code runs to its end after the program; else in a word what happened.

    The test runs in the process of the program: it tells right from wrong programs, not from
    programs written to deceive it.
    """
    # A program that leaves early, by exit() say, never prints the word.
    word = secrets.token_hex(8)
    outcome = sandbox.run(f"{program}\n\n{test}\n\nprint('\\n{word}')\n")
    if outcome.status != "ok":
        return outcome.status
    return None if outcome.stdout.rstrip().rpartition("\n")[2] == word else "wrong"

"""What the schema refuses, in the words of a recipe's messages."""

from __future__ import annotations

from pydantic_core import ErrorDetails


def refusal(problem: ErrorDetails) -> str:
    """What is wrong with one value, and the value itself where the words do not name it."""
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if problem["type"] in ("value_error", "missing", "extra_forbidden"):
        return message
    return f"{message}, not {repr(problem['input'])[:80]}"

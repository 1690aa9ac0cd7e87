"""Runs a program and then its tests, and proves that they ran; this file runs in the sandbox.

An order comes on standard input; the program finds its own standard input empty. The proof is one
line with a secret word, written to where standard output was before the program ran, and the last
thing that happens: a program that leaves early proves nothing, and what it prints does not matter.
Whatever decides is fetched before the program runs, so that it changes no builtin for the tests.
"""

from __future__ import annotations

import builtins
import json
import linecache
import os
import sys
import threading
import types
from typing import Any

PRELUDE = """
import bisect, collections, copy, functools, heapq, itertools, math, operator, random, re, string
import sys
from bisect import *
from collections import *
from copy import *
from functools import *
from heapq import *
from itertools import *
from math import *
from string import *
from typing import *
from builtins import *
"""
"""What sites with functions to complete import before the program."""


class Proof:
    """Counts assertions; `ran` and `plain` stand around expressions of the tests.

    Attributes:
        count: assertions that ran.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.count = 0
        self._namespace = namespace

    def ran(self, value: object) -> object:
        """The value of an assertion, which counts from here on."""
        self.count += 1
        return value

    def plain(self, value: object) -> object:
        """A value that is compared with a literal; its program may not decide what it equals."""
        values = [value]
        while values:
            part = values.pop()
            equals = type(part).__eq__
            if getattr(equals, "__globals__", None) is self._namespace:
                raise AssertionError(f"{type(part).__name__} decides itself what it equals")
            if isinstance(part, list | tuple | set | frozenset):
                values += part
            elif isinstance(part, dict):
                values += [*part, *part.values()]
        return value


def work(order: dict[str, Any], module: types.ModuleType) -> object:
    """What is to be proved: the number of assertions that ran, or the value of a call."""
    run, namespace = exec, module.__dict__
    program = compile(order["program"], "solution.py", "exec", dont_inherit=True)
    linecache.cache["solution.py"] = (1, None, order["program"].splitlines(True), "solution.py")
    if "function" in order:
        run(PRELUDE, namespace)
        run(program, namespace)
        return call(namespace, order["function"], order["arguments"])
    tests = compile(order["tests"], "tests.py", "exec", dont_inherit=True)
    proof = Proof(namespace)
    if order["classes"]:
        import unittest

        unittest.main = lambda *args, **options: None  # type: ignore[assignment]
    known = dict(vars(builtins))
    run(program, namespace)
    vars(builtins).update(known)
    sys.settrace(None)
    threading.settrace(None)
    namespace |= {"__name__": "__main__", order["ran"]: proof.ran, order["plain"]: proof.plain}
    run(tests, namespace)
    for name in order["functions"]:
        namespace[name]()
    for name in order["classes"]:
        run_test_case(namespace[name])
    return proof.count


def run_test_case(case: Any) -> None:
    """Runs the tests of a class of unittest; raises AssertionError where one does not pass."""
    import unittest

    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    if not result.wasSuccessful():
        raise AssertionError([said for _, said in [*result.failures, *result.errors]])


def call(namespace: dict[str, Any], name: str, arguments: list[object]) -> object:
    """The value of a function of the program, or of a method of its class `Solution`."""
    holder = namespace.get("Solution")
    if isinstance(holder, type) and hasattr(holder, name):
        return getattr(holder(), name)(*arguments)
    return namespace[name](*arguments)


def main() -> None:
    """Follows the order on standard input and ends the process."""
    order = json.loads(sys.stdin.buffer.read())
    word, write, leave, to_json = order.pop("word"), os.write, os._exit, json.dumps
    proof = os.dup(1)
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    module = types.ModuleType("solution")
    module.__file__ = "solution.py"
    sys.modules |= {"solution": module, "__main__": module}
    try:
        write(proof, f"\n{word} {to_json(work(order, module))}\n".encode())
    except BaseException as problem:
        write(2, f"\n{type(problem).__name__}: {str(problem)[:2000]}\n".encode())
        leave(1)
    leave(0)


if __name__ == "__main__":
    main()

"""The regular expressions of the packages, and texts that make a slow one slow."""

from __future__ import annotations

import ast
import importlib
import math
import pkgutil
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from re import _constants as kinds  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

METHODS = ("search", "match", "fullmatch", "findall", "finditer", "split", "sub", "subn")
ALL_MATCHES = dict.fromkeys(("findall", "split", "sub", "subn"), "finditer")
GENERIC = (
    *("a", " ", "\n", "\t", "\r", "1", "`", "*", "_", "-", "#", "(", "[", "{", "<", "|", "\\", "$"),
    *("\n ", " \n", "a ", "a\n", "1 ", "1.", "\n- ", "**a", "`(", "\\(", "[[1", "a" * 50 + "\n"),
)
_SAMPLES = 2
_CATEGORIES = {
    kinds.CATEGORY_DIGIT: "1", kinds.CATEGORY_SPACE: " ", kinds.CATEGORY_WORD: "a",
    kinds.CATEGORY_NOT_DIGIT: "a", kinds.CATEGORY_NOT_SPACE: "a", kinds.CATEGORY_NOT_WORD: "-",
}  # fmt: skip


@dataclass(frozen=True)
class Used:
    """A pattern, and a way in which it is used."""

    place: str
    pattern: re.Pattern[str]
    method: str

    def run(self, text: str) -> None:
        """Uses it on a text, from its start to its end."""
        method = getattr(self.pattern, self.method)
        found = method("", text) if self.method.startswith("sub") else method(text)
        if self.method == "finditer":
            deque(found, maxlen=0)


def used_patterns(packages: tuple[str, ...]) -> list[Used]:
    """Constants of all modules, alone or in tuples and such, and literals that calls of re get."""
    found: dict[tuple[str, int, str], Used] = {}
    for name in sorted(_modules(packages)):
        module = importlib.import_module(name)
        source = ast.parse(module.__loader__.get_source(name) or "")  # type: ignore[union-attr]
        methods = _methods(source)
        for constant, value in vars(module).items():
            for pattern in _inside(value):
                ways = methods.get(constant) or {"finditer"}
                for way in {ALL_MATCHES.get(way, way) for way in ways}:
                    key = (pattern.pattern, pattern.flags, way)
                    found.setdefault(key, Used(f"{name}.{constant}", pattern, way))
        for line, way, text, flags in _literals(source):
            pattern = re.compile(text, flags)
            way = ALL_MATCHES.get(way, way)
            found.setdefault((text, pattern.flags, way), Used(f"{name}:{line}", pattern, way))
    return list(found.values())


def _modules(packages: tuple[str, ...]) -> Iterator[str]:
    for package in packages:
        folder = importlib.import_module(package).__path__
        yield package
        for module in pkgutil.walk_packages(folder, f"{package}."):
            if not module.name.endswith("__main__"):
                yield module.name


def _inside(value: object) -> Iterator[re.Pattern[str]]:
    if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
        yield value
    elif isinstance(value, dict):
        for part in (*value, *value.values()):
            yield from _inside(part)
    elif isinstance(value, tuple | list | set | frozenset):
        for part in value:
            yield from _inside(part)


def _methods(source: ast.AST) -> dict[str, set[str]]:
    """By which methods a module calls its constants; nothing for those that go elsewhere too."""
    called: dict[str, set[str]] = {}
    elsewhere: set[str] = set()
    owners: set[ast.AST] = set()
    for node in ast.walk(source):
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=way) if way in METHODS:
                called.setdefault(name, set()).add(way)
                owners.add(node.value)
    for node in ast.walk(source):
        match node:
            case ast.For(target=ast.Name(id=name), iter=ast.Tuple(elts=patterns)) if name in called:
                for pattern in patterns:
                    if isinstance(pattern, ast.Name):
                        called.setdefault(pattern.id, set()).update(called[name])
                        owners.add(pattern)
    for node in ast.walk(source):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node not in owners:
            elsewhere.add(node.id)
    return {name: ways for name, ways in called.items() if name not in elsewhere}


def _literals(source: ast.AST) -> Iterator[tuple[int, str, str, int]]:
    """Line, method, text and flags of calls like re.sub("text", ...)."""
    for node in ast.walk(source):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="re"), attr=way),
                args=[ast.Constant(value=str(text)), *others],
            ) if way in METHODS:
                named = [keyword.value for keyword in node.keywords if keyword.arg == "flags"]
                code = ast.unparse(named[0] if named else (others or [ast.Constant(0)])[-1])
                is_flag = re.fullmatch(r"re\.[A-Z]+(?: \| re\.[A-Z]+)*", code)
                yield node.lineno, way, text, eval(code, {"re": re}) if is_flag else 0


def texts(pattern: re.Pattern[str], size: int) -> Iterator[str]:
    """Texts of about this size: short ones over and over, and pieces of what the pattern matches.

    >>> "ab" * 4 in texts(re.compile("ab+c"), 8)
    True
    """
    tree = parser.parse(pattern.pattern, pattern.flags)
    seen: set[tuple[str, str]] = set()
    for number in range(_SAMPLES):
        sample = _sample(tree, number)[:200]
        for prefix in (sample, sample[: len(sample) // 2], sample[:-1]):
            seen |= {("", prefix), ("", f"\n{prefix}"), (prefix, prefix[-1:]), (prefix, " ")}
    for start, repeated in sorted(seen) + [("", text) for text in GENERIC]:
        if repeated:
            body = repeated * (size // len(repeated))
            yield start + body
            yield f"{start}{body}!"


def _sample(tree: Any, number: int) -> str:
    """A text that the pattern nearly matches; the number chooses among alternatives."""
    return "".join(_sample_of(kind, argument, number) for kind, argument in tree)


def _sample_of(kind: Any, argument: Any, number: int) -> str:
    match kind:
        case kinds.LITERAL:
            return chr(argument)
        case kinds.NOT_LITERAL:
            return "a" if chr(argument) != "a" else "b"
        case kinds.ANY:
            return "a"
        case kinds.IN:
            return _member(argument, number)
        case kinds.BRANCH:
            return _sample(argument[1][number % len(argument[1])], number)
        case kinds.SUBPATTERN:
            return _sample(argument[3], number)
        case kinds.ATOMIC_GROUP:
            return _sample(argument, number)
        case kinds.MAX_REPEAT | kinds.MIN_REPEAT | kinds.POSSESSIVE_REPEAT:
            return _sample(argument[2], number) * max(argument[0], 1)
    return ""


def _member(members: list[tuple[Any, Any]], number: int) -> str:
    if members[0][0] is kinds.NEGATE:
        taken = {chr(value) for kind, value in members if kind is kinds.LITERAL}
        return next(char for char in "a(1 -<b" if char not in taken)
    kind, value = members[number % len(members)]
    if kind is kinds.RANGE:
        return chr(value[0])
    return _CATEGORIES.get(value, "a") if kind is kinds.CATEGORY else chr(value)


def cpu_limited(seconds: float, act: Callable[[], None]) -> float:
    """CPU seconds of the act, without end where it is stopped; for the main thread only."""

    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, stop)
    start = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        act()
    except TimeoutError:
        return math.inf
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)
    return time.process_time() - start

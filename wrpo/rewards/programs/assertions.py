"""Test code made ready to prove that its assertions ran.

An assertion is an `assert` of more than a constant, a call of a function whose name starts with
`assert` (unittest, numpy.testing), the condition before a `raise`, or the handler of an exception
in whose `try` an `assert False` or a `raise` waits for the exception that does not come.
"""

from __future__ import annotations

import ast
import re
import secrets
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(r"\r\n|\r")
_RAISES = {"raises", "warns"}
"""Functions of pytest that assert over the block of a `with`."""
_DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True, slots=True)
class TestCode:
    """Test code in which each assertion reports that it ran.

    Attributes:
        text: the code; `ran` and `plain` are names of functions that it calls.
        functions: test functions that nothing in the code calls, to be called after it.
        classes: test cases of unittest, to be run after it.
        modules: modules that it imports.
        imported: names that it imports from the program, as module `solution`.
    """

    __test__ = False

    text: str
    ran: str
    plain: str
    functions: list[str]
    classes: list[str]
    modules: frozenset[str]
    imported: frozenset[str]


def read_test_code(text: str) -> TestCode:
    """Makes test code ready.

    Raises:
        ValueError: it is no Python code, or holds no assertion that runs.
    """
    text = _LINE_END.sub("\n", text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"the tests are no Python code ({error})") from None
    functions, classes = _functions(tree), _classes(tree)
    _must_assert(tree, {*functions, *classes})
    word = secrets.token_hex(8)
    ran, plain = f"ran_{word}", f"plain_{word}"
    return TestCode(
        _edited(text, list(_edits(tree, ran, plain))),
        ran,
        plain,
        functions,
        classes,
        frozenset(_modules(tree)),
        frozenset(
            name.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "solution"
            for name in node.names
        ),
    )


def _functions(tree: ast.Module) -> list[str]:
    """Test functions without arguments that the code does not call itself."""
    called = {name for part in tree.body if not isinstance(part, _DEFINES) for name in _used(part)}
    return [
        part.name
        for part in tree.body
        if isinstance(part, ast.FunctionDef)
        and part.name.startswith("test")
        and part.name not in called
        and len(part.args.args) == len(part.args.defaults)
    ]


def _classes(tree: ast.Module) -> list[str]:
    """Classes of unittest."""
    return [
        part.name
        for part in tree.body
        if isinstance(part, ast.ClassDef)
        and any(ast.unparse(base).endswith("TestCase") for base in part.bases)
    ]


def _must_assert(tree: ast.Module, started: set[str]) -> None:
    """Raises ValueError where no assertion is at the top, or in a definition that is used."""
    holders: dict[str, ast.stmt] = {}
    reached = set(started)
    at_top = False
    for part in tree.body:
        if isinstance(part, _DEFINES):
            holders[part.name] = part
        else:
            reached |= _used(part)
            at_top = at_top or _asserts(part)
    if at_top:
        return
    to_read = [name for name in reached if name in holders]
    while to_read:
        name = to_read.pop()
        if name not in holders:
            continue
        if _asserts(part := holders.pop(name)):
            return
        to_read += [used for used in _used(part) if used in holders]
    idle = sorted(name for name, part in holders.items() if _asserts(part))
    if idle:
        hint = "; give its entry_point too" if "check" in idle else ""
        raise ValueError(f"the tests assert nothing: nothing calls {', '.join(idle)}{hint}")
    raise ValueError("the tests assert nothing: they hold no assertion")


def _used(part: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(part) if isinstance(node, ast.Name)}


def _asserts(part: ast.AST) -> bool:
    return any(_expression(node) or _expected_handlers(node) for node in ast.walk(part))


def _expression(node: ast.AST) -> ast.expr | None:
    """The expression of an assertion: it ran when the expression has its value."""
    if isinstance(node, ast.Assert):
        return None if _is_constant(node.test) or _holds_yield(node.test) else node.test
    if isinstance(node, ast.If) and any(isinstance(part, ast.Raise) for part in node.body):
        return None if _is_constant(node.test) or _holds_yield(node.test) else node.test
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return node.value if _name(node.value.func).startswith("assert") else None
    if isinstance(node, ast.withitem) and isinstance(node.context_expr, ast.Call):
        name = _name(node.context_expr.func)
        return node.context_expr if name.startswith("assert") or name in _RAISES else None
    return None


def _expected_handlers(node: ast.AST) -> list[ast.ExceptHandler]:
    """The handlers of a `try` in which something fails where no exception comes before."""
    if not isinstance(node, ast.Try):
        return []
    fails = any(
        isinstance(part, ast.Raise) or (isinstance(part, ast.Assert) and _is_constant(part.test))
        for part in [*node.body, *node.orelse]
    )
    return node.handlers if fails else []


def _is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant)


def _holds_yield(node: ast.expr) -> bool:
    return any(isinstance(part, ast.Yield | ast.YieldFrom) for part in ast.walk(node))


def _name(node: ast.expr) -> str:
    """The last name of a dotted one."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


_Edit = tuple[int, int, int, str]
"""Line and byte before which a text goes; the lower third number goes first."""


def _edits(tree: ast.Module, ran: str, plain: str) -> Iterator[_Edit]:
    for node in ast.walk(tree):
        if (expression := _expression(node)) is not None:
            yield from _around(expression, ran, 0)
            if isinstance(node, ast.Assert) and (value := _compared(node.test)) is not None:
                yield from _around(value, plain, 1)
        for handler in _expected_handlers(node):
            first = handler.body[0]
            yield first.lineno, first.col_offset, -1, f"{ran}(True)\0"


def _compared(test: ast.expr) -> ast.expr | None:
    """What an assertion compares with a literal."""
    if (
        not isinstance(test, ast.Compare)
        or len(test.ops) != 1
        or not isinstance(test.ops[0], ast.Eq)
    ):
        return None
    if _is_literal(test.comparators[0]):
        return test.left
    return test.comparators[0] if _is_literal(test.left) else None


def _is_literal(node: ast.expr) -> bool:
    known = (ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.UnaryOp, ast.expr_context)
    return all(isinstance(part, (*known, ast.unaryop)) for part in ast.walk(node))


def _around(node: ast.expr, function: str, depth: int) -> Iterator[_Edit]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    yield node.lineno, node.col_offset, depth, f"{function}(("
    yield node.end_lineno, node.end_col_offset, -depth, "))"


def _edited(text: str, edits: list[_Edit]) -> str:
    """The text with all edits; `\\0` at the end of one means that a statement follows it."""
    lines = [line.encode() for line in text.split("\n")]
    for line, at, _, new in sorted(edits, reverse=True):
        before, after = lines[line - 1][:at], lines[line - 1][at:]
        if new.endswith("\0"):
            separator = b"\n" + before if not before.strip() else b"; "
            added = new[:-1].encode() + separator
        else:
            added = new.encode()
        lines[line - 1] = before + added + after
    return b"\n".join(lines).decode()

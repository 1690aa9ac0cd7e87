"""The names that Python code defines at its top, and those that it uses without defining them."""

from __future__ import annotations

import ast
import builtins
import symtable
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

MAX_CHARACTERS = 100_000
"""A longer text is not read as code: Python takes minutes for some such texts."""

_KNOWN = frozenset(dir(builtins)) | {"__file__"}


@dataclass(frozen=True, slots=True)
class PythonCode:
    """Code that parses.

    Attributes:
        defines: names of functions, classes and variables at its top.
        sketches: functions and classes among them without a body: a docstring, `...`, `pass`.
        imports: names that it only imports.
        needs: names that it uses and neither defines, imports nor finds among the built-in ones.
        calls: whether it calls something when it runs, beside defining and importing.
    """

    text: str
    defines: frozenset[str]
    sketches: frozenset[str]
    imports: frozenset[str]
    needs: frozenset[str]
    calls: bool


def read_code(text: str, *, limit: int | None = MAX_CHARACTERS) -> PythonCode | None:
    """The names of a text, or None where it is no Python code, or longer than the limit."""
    if limit is not None and len(text) > limit:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in strings, say: not ours to print
            tree = ast.parse(text)
            table = symtable.symtable(text, "code", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    top = table.get_symbols()
    imports = frozenset(name.get_name() for name in top if name.is_imported())
    defines = frozenset(name.get_name() for name in top if name.is_assigned()) - imports
    return PythonCode(
        text,
        defines,
        frozenset(
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and _is_sketch(node)
        ),
        imports,
        frozenset(_global_uses(table)) - defines - imports - _KNOWN,
        any(isinstance(node, ast.Call) for part in tree.body for node in _runs(part)),
    )


def ends_in_string(text: str) -> bool:
    """Whether code ends within a string of three quotes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text[:MAX_CHARACTERS])
    except SyntaxError as error:
        return error.msg.startswith("unterminated triple-quoted")
    except (ValueError, RecursionError, MemoryError):
        return False
    return False


def _global_uses(table: symtable.SymbolTable) -> Iterator[str]:
    """Names that the code looks up among its globals, in all its functions and classes."""
    tables = [table]
    while tables:
        inner = tables.pop()
        tables += inner.get_children()
        for name in inner.get_symbols():
            if name.is_referenced() and (inner.get_type() == "module" or name.is_global()):
                yield name.get_name()


def _is_sketch(node: ast.stmt) -> bool:
    """Whether a function has no body, or a class only functions without one."""
    if isinstance(node, ast.ClassDef):
        return all(_says_nothing(part) or _is_sketch(part) for part in node.body)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return all(_says_nothing(part) for part in node.body)
    return False


def _says_nothing(part: ast.stmt) -> bool:
    """Whether a statement is a text, `...`, `pass` or `raise NotImplementedError`."""
    return (
        isinstance(part, ast.Pass)
        or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        or (isinstance(part, ast.Raise) and "NotImplementedError" in ast.unparse(part))
    )


def _runs(part: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement at the top that run when the code runs."""
    nodes: list[ast.AST] = [part]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        yield node
        nodes += ast.iter_child_nodes(node)

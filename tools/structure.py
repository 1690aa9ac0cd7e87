"""Measure the structure of the packages: modules per folder, import circles, repeated names.

    python tools/structure.py                    the table of this checkout
    python tools/structure.py --compare v0.1.0   the same beside that of another revision
    python tools/structure.py --list             what is behind the counts
    python tools/structure.py --check            exit code 1 where a limit is passed

Product files are the modules of the packages, without `__init__.py` and tests. Imports under `if
TYPE_CHECKING` do not count. A line outside `wrpo/objectives` knows an objective by name where it
holds one of the words "wrpo", "dpo", "cgpo" or "sft" in quotes and speaks of an objective. Names in
`eval/tasks` may repeat: lm-eval finds them by file and name.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("wrpo", "data_construction", "eval", "benchmarks", "tiny_world", "real_world")
LIBRARIES = PACKAGES[:3]
SMALL_LINES = 60
LIMITS = {
    "modules at the top of wrpo": 15,
    "modules of the largest folder": 24,
    "import circles": 0,
    "circles of what an import runs": 0,
    "public names defined twice": 0,
}
_OBJECTIVE = re.compile(r'objective.*"(wrpo|dpo|cgpo|sft)"|"(wrpo|dpo|cgpo|sft)".*objective', re.I)
_FREE = {"main", "logger", "page", "console"}


class Module(NamedTuple):
    """One product file.

    Attributes:
        name: dotted.
        imports: names of the project's modules that it imports, wherever in the file.
        names: public classes, functions and constants.
        functions: lines of each function.
    """

    name: str
    path: Path
    lines: list[str]
    imports: set[str]
    names: set[str]
    functions: list[int]


def read_modules(root: Path) -> dict[str, Module]:
    """Every product file below a checkout, by its dotted name."""
    paths = {
        ".".join(path.relative_to(root).with_suffix("").parts): path
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
        if path.name != "__init__.py"
    }
    return {name: _read(name, path, set(paths)) for name, path in paths.items()}


def _read(name: str, path: Path, known: set[str]) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    functions = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    imports = {found for found in _imported(tree) if found in known and found != name}
    return Module(name, path, text.splitlines(), imports, set(_public(tree)), functions)


def _imported(tree: ast.AST, *, deep: bool = True) -> Iterator[str]:
    for node in _running(tree, deep=deep):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _running(tree: ast.AST, *, deep: bool = True) -> Iterator[ast.AST]:
    """All nodes but those that only type checkers read; not deep: without those in functions."""
    waiting = [tree]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                continue
            if not deep and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            yield node
            if not deep or isinstance(node, (ast.stmt, ast.ExceptHandler, ast.match_case)):
                waiting.append(node)  # no import is in an expression


def _public(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            targets = [name for target in node.targets for name in ast.walk(target)]
            names = [name.id for name in targets if isinstance(name, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        else:
            continue
        yield from (name for name in names if not name.startswith("_") and name not in _FREE)


def circles(modules: dict[str, Module]) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others."""
    return _groups({name: module.imports for name, module in modules.items()})


def _groups(imports: Mapping[str, set[str]]) -> list[list[str]]:
    reached = {name: _reached(name, imports) for name in imports}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in imports
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def circles_at_import(root: Path) -> list[list[str]]:
    """Groups of modules and packages of which one cannot be imported before the others.

    What counts is what Python runs when it imports: lines of modules, not of functions; with
    `a.b.c` also the packages `a` and `a.b` where the importer does not lie in them; and with
    `kinds_in("a.b")` all modules of that package.
    """
    paths = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    }
    imports: dict[str, set[str]] = {}
    for name, path in paths.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = {*_imported(tree, deep=False), *_kinds(tree, set(paths))}
        ancestors = {ancestor for other in found for ancestor in _and_packages(other)}
        imports[name] = {
            other for other in ancestors if other in paths and other not in _and_packages(name)
        }
    return _groups(imports)


def _kinds(tree: ast.Module, known: set[str]) -> Iterator[str]:
    for node in _running(tree, deep=False):
        match node:
            case ast.Call(func=ast.Name(id="kinds_in"), args=[ast.Constant(value=str(name)), *_]):
                yield from (other for other in known if other.rpartition(".")[0] == name)


def _and_packages(name: str) -> list[str]:
    """The name itself and the packages that it lies in."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _reached(name: str, imports: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(imports[name])
    while waiting:
        other = waiting.pop()
        if other not in found:
            found.add(other)
            waiting += imports[other]
    return found


def repeated_names(modules: dict[str, Module]) -> dict[str, list[str]]:
    """Public names that two modules of the libraries define, with these modules."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in modules.values():
        if module.name.split(".")[0] in LIBRARIES and not module.name.startswith("eval.tasks."):
            for name in module.names:
                places[name].append(module.name)
    return {name: sorted(found) for name, found in sorted(places.items()) if len(found) > 1}


def folders(modules: dict[str, Module]) -> Counter[str]:
    """Modules directly in each folder of the libraries."""
    names = (module.name.rpartition(".")[0] for module in modules.values())
    return Counter(name.replace(".", "/") for name in names if name.split(".")[0] in LIBRARIES)


def named_objectives(modules: dict[str, Module]) -> list[str]:
    """Lines outside `wrpo/objectives` that know an objective by name, as "module:line"."""
    return [
        f"{module.name}:{number}"
        for module in modules.values()
        if not module.name.startswith("wrpo.objectives") and module.name.split(".")[0] in LIBRARIES
        for number, line in enumerate(module.lines, start=1)
        if _OBJECTIVE.search(line)
    ]


def measure(root: Path) -> dict[str, int]:
    """The table: a count by what it counts."""
    modules = read_modules(root)
    importers = Counter(name for module in modules.values() for name in module.imports)
    places = folders(modules)
    lengths = sorted(length for module in modules.values() for length in module.functions)
    return {
        **{f"modules at the top of {name}": places[name] for name in LIBRARIES},
        "modules of the largest folder": max(places.values()),
        "product files": len(modules),
        f"files of at most {SMALL_LINES} lines": sum(
            len(module.lines) <= SMALL_LINES for module in modules.values()
        ),
        "files of more than 400 lines": sum(len(m.lines) > 400 for m in modules.values()),
        "files with one importer": sum(importers[name] == 1 for name in modules),
        "import circles": len(circles(modules)),
        "files in import circles": sum(map(len, circles(modules))),
        "circles of what an import runs": len(circles_at_import(root)),
        "public names defined twice": len(repeated_names(modules)),
        "lines that know an objective by name": len(named_objectives(modules)),
        "files that open a stage's folder": sum(
            "StageFolder(" in "\n".join(module.lines) for module in modules.values()
        ),
        "lines of a function, median": int(statistics.median(lengths)),
        "lines of a function, 90th percentile": lengths[len(lengths) * 9 // 10],
    }


def measure_revision(root: Path, revision: str) -> dict[str, int]:
    """The table of another revision of the repository."""
    archive = subprocess.run(
        ["git", "archive", revision], cwd=root, check=True, capture_output=True
    ).stdout
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
        return measure(Path(folder))


def lists(root: Path) -> str:
    """What is behind the counts."""
    modules = read_modules(root)
    lines = [f"{count:4} {name}" for name, count in sorted(folders(modules).items())]
    lines += ["circle: " + ", ".join(group) for group in circles(modules)]
    lines += [f"{name}: {', '.join(found)}" for name, found in repeated_names(modules).items()]
    lines += [f"objective by name: {place}" for place in named_objectives(modules)]
    return "\n".join(lines)


def main() -> None:
    """Prints the table; with --check, what passes its limit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--compare", metavar="REVISION", help="a revision to show beside it")
    parser.add_argument("--list", action="store_true", help="what is behind the counts")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a limit is passed")
    args = parser.parse_args()
    table = measure(args.root)
    before = measure_revision(args.root, args.compare) if args.compare else None
    for name, count in table.items():
        earlier = f"{before[name]:8}" if before else ""
        sys.stdout.write(f"{name:40}{earlier}{count:8}\n")
    if args.list:
        sys.stdout.write(lists(args.root) + "\n")
    passed = [name for name, limit in LIMITS.items() if table[name] > limit]
    if args.check and passed:
        sys.exit(f"more than the limit: {', '.join(passed)}; --list shows them")


if __name__ == "__main__":
    main()

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
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGES = ("wrpo", "data_construction", "eval", "benchmarks", "tiny_world", "real_world")
LIBRARIES = PACKAGES[:3]
SMALL_LINES = 60
LIMITS = {
    "modules at the top of wrpo": 15,
    "modules of the largest folder": 24,
    "import circles": 0,
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


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in _running(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _running(node)


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
    reached = {name: _reached(name, modules) for name in modules}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in modules
        if name in reached[name]
    }
    return [list(group) for group in sorted(groups)]


def _reached(name: str, modules: dict[str, Module]) -> set[str]:
    found: set[str] = set()
    waiting = list(modules[name].imports)
    while waiting:
        other = waiting.pop()
        if other not in found:
            found.add(other)
            waiting += modules[other].imports
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

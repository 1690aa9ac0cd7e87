"""The table of drop reasons in docs/stages.md has each reason that the code gives, and no other."""

import ast
import re
from collections.abc import Iterator

from tests.conftest import REPOSITORY

MAKERS = {"Drop", "_match"}


def reasons(tree: ast.AST) -> Iterator[str]:
    """Lower-case words that are given to what makes a reason."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in MAKERS:
            continue
        texts = [part.value for part in node.args if isinstance(part, ast.Constant)]
        yield from (t for t in texts if isinstance(t, str) and re.fullmatch(r"[a-z_]{4,}", t))


def test_every_reason_is_explained() -> None:
    rooms = ("data_construction", "wrpo")
    files = [file for room in rooms for file in (REPOSITORY / room).rglob("*.py")]
    given = {reason for file in files for reason in reasons(ast.parse(file.read_text("utf-8")))}
    page = (REPOSITORY / "docs" / "stages.md").read_text("utf-8").split("## Dropped rows")[1]
    rows = [line.split("|")[1] for line in page.split("\n## ")[0].splitlines() if "`" in line]
    explained = {reason for row in rows for reason in re.findall(r"`([a-z_]+)`", row)}
    assert len(given) > 25
    assert given == explained

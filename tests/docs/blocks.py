"""Fenced blocks of Markdown files, and the commands in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
PAGES += [ROOT / "benchmarks" / "README.md", *sorted((ROOT / "recipes").rglob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

MARK = re.compile(r"#.*\b(needs (?:a GPU|the network|an API key|Slurm)|takes (?:minutes|hours))\b")
"""A comment that says why no test runs the command in front of it."""


class Block(NamedTuple):
    """One fenced block: its language (may be empty), its text, the line of its fence."""

    language: str
    text: str
    line: int


class Command(NamedTuple):
    """One command of a shell block; `mark` says why no test runs it, empty where one does."""

    text: str
    mark: str


def blocks(path: Path) -> list[Block]:
    """The fenced blocks of a file, in order."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start()) + 1)
        for found in _FENCE.finditer(text)
    ]


def commands_of(block: Block) -> list[Command]:
    """The commands of a shell block: lines, joined where they end in a backslash."""
    lines = re.sub(r"\\\n\s*", " ", block.text).splitlines()
    return [
        Command(line.strip(), found[1] if (found := MARK.search(line)) else "")
        for line in lines
        if line.strip() and not line.lstrip().startswith("#")
    ]

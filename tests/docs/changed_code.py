"""A copy of the packages with the files that a page of the documentation shows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.docs.blocks import ROOT, blocks
from tests.support.commands import run_module

PACKAGES = ("wrpo", "data_construction", "eval")


def named_files(page: str) -> dict[str, str]:
    """The blocks of a page that begin with a comment of their file's name, by that name."""
    texts = [block.text for block in blocks(ROOT / "docs" / page)]
    return {match[1]: text for text in texts if (match := re.match(r"# (\S+\.\w+)\n", text))}


class ChangedCode:
    """The copy, and how its modules run.

    Args:
        folder: where it is made.
        page: of `docs/`; no file that it shows may be there already.
    """

    def __init__(self, folder: Path, page: str) -> None:
        self.folder = folder
        self.tests: list[str] = []
        ignored = shutil.ignore_patterns("__pycache__")
        for package in PACKAGES:
            shutil.copytree(ROOT / package, folder / package, ignore=ignored)
        for name, text in named_files(page).items():
            assert not (ROOT / name).exists(), f"{page} changes {name} instead of adding a file"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
            self.tests += [name] if Path(name).name.startswith("test_") else []

    def run(self, module: str, *arguments: object) -> str:
        """What a module of the copy prints."""
        done = run_module(module, *arguments, folder=self.folder)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    def refuses(self, module: str, *arguments: object) -> str:
        """The message with which a command of the copy ends for a user's mistake."""
        done = run_module(module, *arguments, folder=self.folder)
        assert done.returncode == 2, done.stderr[-3000:]
        return done.stderr

    def run_tests(self) -> None:
        """The tests that the page shows."""
        assert self.tests
        assert "passed" in self.run("pytest", "-q", "-p", "no:cacheprovider", *self.tests)

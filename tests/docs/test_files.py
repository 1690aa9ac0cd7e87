"""docs/files.md: every module has a line, and the line is its docstring's."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_files_is_what_the_docstrings_say() -> None:
    page = runpy.run_path(str(ROOT / "tools" / "file_map.py"))["page"]
    assert (ROOT / "docs/files.md").read_text("utf-8") == page(), "run: make reference"

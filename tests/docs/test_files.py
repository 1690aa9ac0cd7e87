"""docs/files.md: every module has a line, and the line is its docstring's."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_of_files_is_what_the_docstrings_say() -> None:
    spec = importlib.util.spec_from_file_location("file_map", ROOT / "tools/file_map.py")
    assert spec and spec.loader
    file_map = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(file_map)
    assert (ROOT / "docs/files.md").read_text("utf-8") == file_map.page(), "run: make reference"

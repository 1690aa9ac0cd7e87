"""Links of the documentation and the README lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")]
MADE = {"recipes/schema.json", "eval/MODEL", "eval/MODEL/results.json", "eval/NAME/"}
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")


@pytest.mark.slow
def test_the_site_builds_and_every_link_and_anchor_in_it_leads_somewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path)]
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "index.html").is_file()


def test_every_page_is_in_the_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text()
    assert [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in config] == []


def test_files_that_markdown_at_the_root_links_to_are_there() -> None:
    missing = {
        f"{page.name}: {link}"
        for page in ROOT.glob("*.md")
        for link in LINK.findall(page.read_text(encoding="utf-8"))
        if not (ROOT / link).exists()
    }
    assert missing == set()


def test_paths_that_the_readme_and_the_threat_model_name_are_there() -> None:
    pattern = re.compile(r"`((?:wrpo|data_construction|eval|recipes|tests|tools|docs)/[\w./-]*)`")
    missing = {
        f"{name}: {path}"
        for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", *PAGES)
        for path in pattern.findall((ROOT / name).read_text(encoding="utf-8"))
        if not (ROOT / path).exists() and path not in MADE
    }
    assert missing == set()

"""The wheel holds every file of the packages, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("wrpo", "data_construction", "eval", "tiny_world", "real_world")
METADATA = ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in (*PACKAGES, "recipes"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=ignored)
    for name in METADATA:
        shutil.copy(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", str(folder), str(folder / "source")], check=True, timeout=300)
    return next(folder.glob("wrpo-*.whl"))


@pytest.mark.slow
def test_it_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    recipes = {
        f"wrpo/shipped/{path.relative_to(ROOT / 'recipes')}"
        for path in (ROOT / "recipes").rglob("*")
        if path.suffix in (".yaml", ".txt")
    }
    assert found == wanted | recipes


@pytest.mark.slow
def test_its_command_starts_outside_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    script = f"import sys; sys.path.insert(0, {str(site)!r}); import wrpo; print(wrpo.__file__)"
    script += "; from wrpo.__main__ import console; sys.argv = ['wrpo', 'plan', '--recipe', 'none']"
    script += "; console()"
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert found.stdout.strip() == str(site / "wrpo" / "__init__.py")
    assert found.returncode == 2
    assert "no such recipe file" in found.stderr and "fusechat3/llama32-1b" in found.stderr

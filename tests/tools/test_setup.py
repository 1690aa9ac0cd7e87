"""tools/setup with an environment that is there already."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

STAMP = """\
source <(sed -n '/^requirements_hash/,/^}/p' tools/setup)
echo "cpu $(requirements_hash cpu)" > .venv/.installed
"""


def test_it_writes_the_schema_for_editors_when_the_code_is_newer(tmp_path: Path) -> None:
    for name in ("tools", "requirements"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    shutil.copy(REPOSITORY / "setup.cfg", tmp_path)
    for folder in ("recipes", "wrpo", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    python.write_text('#!/usr/bin/env bash\necho "$@"\n')
    python.chmod(0o755)
    code, schema = tmp_path / "wrpo/code.py", tmp_path / "recipes/schema.json"
    code.write_text("")
    subprocess.run(["bash", "-ec", STAMP], cwd=tmp_path, check=True)

    def setup() -> str:
        environment = {**os.environ, "ENV": "cpu"}
        subprocess.run(["tools/setup"], cwd=tmp_path, env=environment, check=True, timeout=60)
        return schema.read_text()

    assert setup() == "-m wrpo schema\n"
    schema.write_text("as it was")
    assert setup() == "as it was"
    os.utime(code, (schema.stat().st_mtime + 9,) * 2)
    assert setup() == "-m wrpo schema\n"
    os.utime(code, (schema.stat().st_mtime + 9,) * 2)
    python.write_text("#!/usr/bin/env bash\nexit 1\n")
    assert setup() == "-m wrpo schema\n"
    assert list(schema.parent.iterdir()) == [schema]


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not a checkout")
def test_git_ignores_the_schema() -> None:
    tracked = ["git", "ls-files", "--error-unmatch", "recipes/schema.json"]
    ignored = ["git", "check-ignore", "--quiet", "recipes/schema.json"]
    assert subprocess.run(tracked, cwd=REPOSITORY, capture_output=True).returncode != 0
    assert subprocess.run(ignored, cwd=REPOSITORY).returncode == 0

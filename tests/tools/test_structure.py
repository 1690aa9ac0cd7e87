"""tools/structure.py counts what it says, and this checkout is within its limits."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(REPOSITORY / "tools" / "structure.py"))


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


TREE = {
    "wrpo/a.py": "from wrpo.room.b import two\n\ndef one() -> int:\n    return 1\n",
    "wrpo/room/b.py": "def two() -> None:\n    from wrpo import a\n\nclass one:\n    pass\n",
    "wrpo/room/c.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from wrpo.room import d\n"
        '_hidden = 1\nkind = objective == "dpo"\n'
    ),
    "wrpo/room/d.py": "import wrpo.room.c\n",
    "wrpo/objectives/dpo.py": 'objective = "dpo"\n',
    "wrpo/__init__.py": "import wrpo.a\n",
    "data_construction/e.py": "\n" * 401,
    "eval/f.py": "def three() -> None:\n    pass\n",
    "eval/tasks/g.py": "def three() -> None:\n    pass\n",
}


def test_it_counts_a_small_tree(tool: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, TREE)
    table = tool["measure"](tmp_path)
    assert table["modules at the top of wrpo"] == 1
    assert table["modules of the largest folder"] == 3
    assert table["product files"] == 8
    assert table["files of more than 400 lines"] == 1
    assert (table["import circles"], table["files in import circles"]) == (1, 2)
    assert table["lines that know an objective by name"] == 1
    modules = tool["read_modules"](tmp_path)
    assert tool["circles"](modules) == [["wrpo.a", "wrpo.room.b"]]
    assert tool["repeated_names"](modules) == {"one": ["wrpo.a", "wrpo.room.b"]}


THROUGH_PACKAGES = {
    "wrpo/__init__.py": "",
    "wrpo/room/__init__.py": "from wrpo.room.one import one\n",
    "wrpo/room/one.py": "from wrpo.two import two\none = two\n",
    "wrpo/room/three.py": "three = 3\n",
    "wrpo/two.py": "from wrpo.room.three import three\ntwo = three\n",
}


def test_a_circle_through_a_package_is_found(tool: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, THROUGH_PACKAGES)
    fails = [sys.executable, "-c", "import wrpo.two"]
    assert b"ImportError" in subprocess.run(fails, cwd=tmp_path, capture_output=True).stderr
    assert tool["circles_at_import"](tmp_path) == [["wrpo.room", "wrpo.room.one", "wrpo.two"]]
    (tmp_path / "wrpo" / "two.py").write_text(
        "def two() -> int:\n    from wrpo.room.three import three\n    return three\n"
    )
    assert tool["circles_at_import"](tmp_path) == []


def test_a_circle_through_the_kinds_of_a_package_is_found(
    tool: dict[str, Any], tmp_path: Path
) -> None:
    write(
        tmp_path,
        {
            "wrpo/rewards/one.py": "from wrpo.recipe import Recipe\n",
            "wrpo/recipe.py": 'REWARDS = kinds_in("wrpo.rewards", Settings)\n',
        },
    )
    assert tool["circles_at_import"](tmp_path) == [["wrpo.recipe", "wrpo.rewards.one"]]


def test_this_checkout_is_within_the_limits(tool: dict[str, Any]) -> None:
    table = tool["measure"](REPOSITORY)
    assert {
        name: table[name] for name, limit in tool["LIMITS"].items() if table[name] > limit
    } == {}

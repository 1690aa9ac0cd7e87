"""tools/wheelhouse.py: what is fetched for a machine without network, and what is not."""

from __future__ import annotations

import runpy
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

FREEZE = """\
# comment
torch==2.11.0+cu130
Typing_Extensions==4.15.0
numpy @ file:///croot/numpy-2.3.5-cp312-cp312-linux_x86_64.whl
local @ file:///home/user/local
-e git+https://example.org/x.git@abc#egg=x
"""


@pytest.fixture(scope="module")
def tool() -> dict[str, Any]:
    return runpy.run_path(str(REPOSITORY / "tools" / "wheelhouse.py"))


def wheel(folder: Path, name: str, version: str, *needs: str, tag: str = "py3-none-any") -> None:
    folder.mkdir(exist_ok=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {need}" for need in needs]
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as file:
        file.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines) + "\n")
        file.writestr(f"{name}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        file.writestr(f"{name}-{version}.dist-info/RECORD", "")


def test_a_freeze_is_read(tool) -> None:
    assert tool["parse_freeze"](FREEZE) == {
        "torch": "2.11.0",
        "typing-extensions": "4.15.0",
        "numpy": "2.3.5",
        "local": None,
    }


def fetched(tool, tmp_path: Path, have: dict[str, str | None]) -> list[str]:
    return tool["download"](
        ["app"],
        tmp_path / "wheels",
        have=have,
        python="3.12",
        tags=tool["platforms"]("x86_64", 28),
        options=["--no-index", "--find-links", str(tmp_path / "index"), "--quiet"],
    )


def test_only_what_is_lacking_is_fetched_for_that_python_and_platform(tool, tmp_path) -> None:
    index = tmp_path / "index"
    wheel(index, "app", "1.0", "torch>=2.8", "helper", "there<3", "vllm")
    wheel(index, "torch", "2.12.0", "nvidia_cublas")
    wheel(index, "nvidia_cublas", "13.0")
    wheel(index, "there", "2.5")
    for tag in ("cp311-cp311-manylinux_2_28_x86_64", "cp312-cp312-manylinux_2_27_x86_64"):
        wheel(index, "helper", "1.5", "there>=2", tag=tag)
    wheel(index, "helper", "1.6", "there>=2", tag="cp312-cp312-manylinux_2_39_x86_64")
    files = fetched(tool, tmp_path, {"torch": "2.11.0", "there": "2.0"})
    assert files == ["app-1.0-py3-none-any.whl", "helper-1.5-cp312-cp312-manylinux_2_27_x86_64.whl"]


def test_versions_follow_those_that_are_there(tool, tmp_path) -> None:
    index = tmp_path / "index"
    wheel(index, "app", "1.0", "helper")
    wheel(index, "helper", "2.0", "there>=3")
    wheel(index, "helper", "1.0", "there>=2")
    wheel(index, "there", "3.0")
    assert "helper-1.0-py3-none-any.whl" in fetched(tool, tmp_path, {"there": "2.0"})


def test_versions_that_do_not_fit_stop_it(tool, tmp_path) -> None:
    wheel(tmp_path / "index", "app", "1.0", "torch>=2.8")
    with pytest.raises(SystemExit, match="pip could not fetch all"):
        fetched(tool, tmp_path, {"torch": "2.1.0"})

"""Full and read-only disks, no memory, clocks that jump: nothing lost, one message."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.commands import run_module
from tests.support.recipe_files import write_recipe as write_text
from wrpo.cli import run_main
from wrpo.pipeline.folder import StageFolder, read_manifest
from wrpo.pipeline.tables import DROPPED, Drop, parts, read_rows

ROOT = Path(__file__).parents[2]
RECIPE = """\
run: faults
runs: {runs}
sources: {{one: {{model: hub/one}}}}
target: {{model: hub/target}}
prompts:
  datasets:
    world: {{path: {data}}}
rewards:
  rm: {{type: classifier, model: hub/rm}}
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs more rights")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def make_prompts(
    tmp_path: Path, runs: Path, prompts: int = 3000
) -> Callable[[], subprocess.CompletedProcess[str]]:
    """The command `prompts` over texts that barely compress, writing to `runs`."""
    data = tmp_path / "prompts.jsonl"
    lines = (json.dumps({"prompt": os.urandom(24).hex()}) for _ in range(prompts))
    data.write_text("\n".join(lines))
    path = write_text(tmp_path, RECIPE.format(runs=runs, data=data))
    return lambda: run_module("data_construction.prompts", "--recipe", path)


def test_a_full_disk_is_one_message_and_the_same_command_goes_on_after_room_is_made(
    small_disk: Path, tmp_path: Path
) -> None:
    run = make_prompts(tmp_path, small_disk)
    full = run()
    assert full.returncode == 2
    assert "Traceback" not in full.stderr
    assert "No space left" in full.stderr and "make room" in full.stderr
    folder = small_disk / "faults" / "prompts"
    assert not (read_manifest(folder) or {"complete": False})["complete"]
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    assert run().returncode == 0
    assert len(read_rows(folder)) == 3000
    assert not list(folder.glob(".*partial"))


def test_a_read_only_disk_is_one_message(small_disk: Path, tmp_path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused = make_prompts(tmp_path, small_disk, prompts=3)()
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "Read-only file system" in refused.stderr


def test_a_disk_that_fills_while_parts_are_written_keeps_the_finished_ones(
    small_disk: Path,
) -> None:
    folder = StageFolder(small_disk / "stage", {"a": 1})
    folder.open(parts=100)
    rows = [Drop("reason").row(os.urandom(24).hex()) for _ in range(100)]
    written = 0
    with pytest.raises(OSError, match="No space left") as raised:
        for part in range(100):
            folder.write_part(part, rows, DROPPED)
            written += 1
    assert str(small_disk) in str(raised.value.filename)
    assert 0 < written == len(parts(folder.path)) < 100
    assert len(read_rows(folder.path)) == 100 * written
    again = StageFolder(small_disk / "stage", {"a": 1})
    assert again.open() is False
    assert again.done_parts() == set(range(written))


@pytest.mark.parametrize("kind", ["host", "device"])
def test_memory_that_runs_out_is_one_message(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        if kind == "host":
            raise MemoryError
        import torch

        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    with pytest.raises(SystemExit) as stopped:
        run_main(main)
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "out of memory" in told and "per_device_batch_size" in told and "more\n" not in told


def test_a_process_without_memory_says_so(tmp_path: Path) -> None:
    code = (
        "from wrpo.cli import run_main\ndef main():\n    x = bytearray(1 << 40)\nrun_main(main)\n"
    )
    limit = 4 << 30
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert result.returncode == 2
    assert "out of memory" in result.stderr and "Traceback" not in result.stderr


def test_a_clock_that_jumps_back_neither_loses_parts_nor_makes_times_negative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = StageFolder(tmp_path / "stage", {"a": 1})
    folder.open(parts=2)
    rows = [Drop("reason").row("p")]
    folder.write_part(0, rows, DROPPED)
    monkeypatch.setattr("time.time", lambda: 0.0)
    folder.write_part(1, rows, DROPPED)
    os.utime(folder.path / "part-00001.parquet", (0, 0))
    assert folder.finish_parts(2)
    manifest = read_manifest(folder.path)
    assert manifest is not None
    assert manifest["complete"] and manifest["seconds"] >= 0
    assert StageFolder(tmp_path / "stage", {"a": 1}).open() is True


def test_a_file_that_may_not_be_read_is_not_called_unwritable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def main() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "secret.yaml")

    with pytest.raises(SystemExit) as stopped:
        run_main(main)
    assert stopped.value.code == 2
    assert "cannot use secret.yaml: Permission denied" in capsys.readouterr().err

"""A stage's folder: resume, skip, refuse; and nothing half after a kill at any moment."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from wrpo.errors import DataError, StageError
from wrpo.pipeline.folder import StageFolder, key_differences, read_manifest
from wrpo.pipeline.tables import SCORES, Drop, Row, read_parquet, read_rows

KEY = {"seed": 1, "sampling": {"responses": 2, "temperature": 0.8}}
ROOT = Path(__file__).parents[3]


def score(number: int) -> Row:
    return {"prompt_id": f"p{number}", "source": "s", "index": 0, "score": 0.5, "rewards": []}


def complete(path: Path, key: dict[str, Any] | None = None) -> StageFolder:
    folder = StageFolder(path, key or KEY)
    folder.open(parts=2)
    for part in range(2):
        folder.write_part(part, [score(part)], SCORES, dropped=[Drop("long").row(f"d{part}")])
    assert folder.finish_parts(2)
    return folder


# --- open: start, resume, skip, refuse ---


def test_a_new_folder_is_to_be_done(tmp_path: Path) -> None:
    assert StageFolder(tmp_path / "a" / "b", KEY).open(parts=3) is False
    manifest = read_manifest(tmp_path / "a" / "b")
    assert manifest is not None
    assert (manifest["complete"], manifest["parts"], manifest["key"]) == (False, 3, KEY)


def test_a_complete_folder_of_the_same_key_is_skipped(tmp_path: Path) -> None:
    complete(tmp_path / "stage")
    assert StageFolder(tmp_path / "stage", KEY).open(parts=2) is True


def test_a_partial_folder_of_the_same_key_is_resumed(tmp_path: Path) -> None:
    first = StageFolder(tmp_path, KEY)
    first.open(parts=3)
    first.write_part(1, [score(1)], SCORES)
    second = StageFolder(tmp_path, KEY)
    assert second.open(parts=3) is False
    assert second.done_parts() == {1}


def test_another_key_is_refused_with_differences_and_ways_out(tmp_path: Path) -> None:
    complete(tmp_path / "stage")
    other = {"seed": 1, "sampling": {"responses": 4, "temperature": 0.8}, "new": True}
    with pytest.raises(StageError) as caught:
        StageFolder(tmp_path / "stage", other).open(parts=2)
    message = str(caught.value)
    assert "finished with other settings" in message
    assert "sampling.responses: 2 -> 4" in message
    assert "new: '(absent)' -> True" in message
    assert "temperature" not in message
    assert "run=NAME" in message
    assert f"rm -r {tmp_path / 'stage'}" in message


def test_a_refused_folder_stays_as_it_was(tmp_path: Path) -> None:
    complete(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(StageError):
        StageFolder(tmp_path, {"seed": 2}).open(parts=9)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_begun_folder_of_another_key_is_refused_too(tmp_path: Path) -> None:
    StageFolder(tmp_path, KEY).open(parts=2)
    with pytest.raises(StageError, match="begun with other settings"):
        StageFolder(tmp_path, {"seed": 2}).open(parts=2)


def test_keys_with_tuples_and_numbers_as_names_compare_equal_after_json(tmp_path: Path) -> None:
    key = {"tasks": ("a", "b"), "by": {1: 2.0}}
    StageFolder(tmp_path, key).open()
    assert StageFolder(tmp_path, key).open() is False


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", '"words"', "null", "[" * 10_000, "\ud800"),
        '{"complete": true}',
        '{"complete": true, "key": null}',
        '{"complete": "yes", "key": {}}',
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DataError, match=r"manifest\.json: damaged.*; delete the folder"):
        StageFolder(tmp_path, KEY).open()


def test_differences_are_listed_by_path() -> None:
    there = {"a": {"b": 1, "c": 2}, "gone": 1, "same": [1]}
    now = {"a": {"b": 1, "c": 3}, "same": [1], "x": None}
    assert key_differences(there, now) == [
        "a.c: 2 -> 3",
        "gone: 1 -> '(absent)'",
        "x: '(absent)' -> None",
    ]


# --- parts, dropped rows, completion ---


def test_the_manifest_counts_rows_and_reasons(tmp_path: Path) -> None:
    complete(tmp_path)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert (manifest["complete"], manifest["rows"], manifest["dropped"]) == (True, 2, 2)
    assert manifest["dropped_reasons"] == {"long": 2}
    assert manifest["parts"] == 2
    assert {"command", "versions", "written", "seconds", "key_digest"} <= set(manifest)


def test_dropped_rows_end_in_one_file(tmp_path: Path) -> None:
    complete(tmp_path)
    assert [row["prompt_id"] for row in read_parquet(tmp_path / "dropped.parquet")] == ["d0", "d1"]
    assert list(tmp_path.glob("dropped-*")) == []
    assert [row["prompt_id"] for row in read_rows(tmp_path)] == ["p0", "p1"]


def test_a_stage_without_losses_has_an_empty_dropped_file(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path, KEY)
    folder.open(parts=1)
    folder.write_part(0, [score(0)], SCORES)
    assert folder.finish_parts(1)
    assert read_parquet(tmp_path / "dropped.parquet") == []


def test_a_part_written_again_forgets_what_it_dropped_before(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path, KEY)
    folder.open(parts=1)
    folder.write_part(0, [], SCORES, dropped=[Drop("long").row("d")])
    folder.write_part(0, [score(0)], SCORES)
    assert folder.finish_parts(1)
    assert read_parquet(tmp_path / "dropped.parquet") == []


def test_missing_parts_keep_the_stage_open(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path, KEY)
    folder.open(parts=2)
    folder.write_part(1, [score(1)], SCORES)
    assert folder.finish_parts(2) is False
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest["complete"] is False


def test_the_second_shard_to_finish_leaves_the_manifest_alone(tmp_path: Path) -> None:
    folder = complete(tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    assert folder.finish_parts(2)
    assert (tmp_path / "manifest.json").read_bytes() == before


# --- locks ---


def test_a_second_process_is_kept_out_until_the_first_ends(tmp_path: Path) -> None:
    code = f"""
        from pathlib import Path
        from wrpo.pipeline.folder import StageFolder
        with StageFolder(Path({str(tmp_path)!r}), {KEY!r}).lock():
            print("READY", flush=True)
            input()
        """
    folder = StageFolder(tmp_path, KEY)
    process = start(code)
    try:
        wait_ready(process)
        with (
            pytest.raises(StageError, match="another process is writing this stage"),
            folder.lock(),
        ):
            pass
        with folder.lock("shard-2"):
            pass
    finally:
        process.kill()
        process.wait()
    with folder.lock():
        pass


# --- kill -9 ---

# A stage of three parts; it stops for ever at the given call of rename, write or unlink.
WRITER = """
    import sys, time
    from pathlib import Path
    import pyarrow.parquet as pq
    from tests.wrpo.pipeline.test_folder import run_stage

    what, stop_at = sys.argv[2], int(sys.argv[3])
    calls = 0

    def stop(function):
        def stopping(*args, **kwargs):
            global calls
            calls += 1
            if calls == stop_at:
                if what == "write":
                    function(*args, **kwargs)
                    data = Path(args[1]).read_bytes()
                    Path(args[1]).write_bytes(data[: len(data) // 2])
                print("READY", flush=True)
                time.sleep(600)
            return function(*args, **kwargs)
        return stopping

    if what == "rename":
        Path.replace = stop(Path.replace)
    elif what == "write":
        pq.write_table = stop(pq.write_table)
    else:
        Path.unlink = stop(Path.unlink)
    run_stage(Path(sys.argv[1]))
    """

MOMENTS = [
    # manifest, then dropped rows and part (twice), part, dropped.parquet, complete manifest
    *(("rename", number) for number in range(1, 9)),
    # half a file of: dropped rows, part (twice), part, dropped.parquet
    *(("write", number) for number in range(1, 7)),
    # the dropped rows of each part, after the manifest is complete
    *(("unlink", number) for number in (8, 9)),
]


def run_stage(path: Path) -> None:
    folder = StageFolder(path, KEY)
    if folder.open(parts=3):
        return
    with folder.lock():
        for part in sorted({0, 1, 2} - folder.done_parts()):
            lost = [Drop("long").row(f"d{part}")] if part < 2 else []
            folder.write_part(part, [score(part)] * 3, SCORES, dropped=lost)
        assert folder.finish_parts(3)


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "READY\n"


def contents(path: Path) -> dict[str, list[Row]]:
    return {file.name: read_parquet(file) for file in path.glob("*.parquet")}


@pytest.mark.slow
@pytest.mark.parametrize(("what", "number"), MOMENTS)
def test_a_killed_writer_leaves_nothing_half_and_is_resumed(
    tmp_path: Path, what: str, number: int
) -> None:
    run_stage(tmp_path / "undisturbed")
    undisturbed = contents(tmp_path / "undisturbed")
    assert sorted(undisturbed) == ["dropped.parquet", *(f"part-{n:05d}.parquet" for n in range(3))]

    killed = tmp_path / "killed"
    process = start(WRITER, str(killed), what, str(number))
    try:
        wait_ready(process)
    finally:
        process.kill()
        process.wait()
    there = {name: rows for name, rows in contents(killed).items() if name in undisturbed}
    assert all(rows == undisturbed[name] for name, rows in there.items())
    manifest = read_manifest(killed)
    if manifest is not None and manifest["complete"]:
        assert there == undisturbed

    run_stage(killed)
    assert {
        name: rows for name, rows in contents(killed).items() if name in undisturbed
    } == undisturbed
    manifest = read_manifest(killed)
    assert manifest is not None
    assert (manifest["complete"], manifest["rows"], manifest["dropped"]) == (True, 9, 2)

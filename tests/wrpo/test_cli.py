"""How a command ends: one message for what a user can fix; one line and a file for our faults."""

from __future__ import annotations

import errno
import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.recipe_files import tiny_recipe
from wrpo import cli
from wrpo.errors import DataError
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.pipeline import Pipeline


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


def ending(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> tuple[int | str | None, str]:
    """Exit code and message of a command that raises `error`."""

    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stopped:
        cli.run_main(main)
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (DataError("row 3 is empty; remove it"), ["error: row 3 is empty; remove it"]),
        (OSError(errno.ENOSPC, "No space left", "a/b"), ["cannot use a/b", "make room"]),
        (OSError("write failed: No space left on device (28)"), ["No space left", "make room"]),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 5 vs 3"),
            ["room"],
        ),
        (RuntimeError("I/O error: No space left on device (os error 28)"), ["make room"]),
        (RuntimeError("cannot save: Permission denied (os error 13)"), ["os error 13", "allow it"]),
        (OSError(errno.ENOLCK, "No locks available", "d/.lock"), ["cannot use d/.lock", "locks"]),
        (PermissionError(errno.EACCES, "Permission denied", "x"), ["cannot use x", "allow it"]),
        (OSError(errno.ENAMETOOLONG, "too long", "x" * 300), ["choose a shorter name"]),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "f/x"), ["f/x", "is a file"]),
        (FileExistsError(errno.EEXIST, "File exists", "l"), ["l: File exists", "leads nowhere"]),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "d"), ["it is a folder"]),
        (MemoryError(), ["out of memory (on the host)", "per_device_batch_size"]),
        (OutOfMemoryError("CUDA out of memory. Tried\nmore"), ["(CUDA out of memory. Tried)"]),
    ],
)
def test_what_a_user_can_change_ends_in_one_message_with_the_way_out(
    error: Exception, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = ending(error, capsys)
    assert code == cli.USER_ERROR and message.count("\n") == 1
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    "error",
    [KeyError("x"), ValueError("first\nsecond"), AssertionError(), OSError(errno.EINVAL, "what?")],
)
def test_a_fault_of_ours_is_one_line_and_its_traceback_a_file(
    error: Exception,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cli, "_run_folders", [tmp_path])
    error.add_note("stage score/letters")
    code, message = ending(error, capsys)
    assert code == cli.UNEXPECTED and message.count("\n") == 1 and "Traceback" not in message
    (log,) = (tmp_path / "logs").iterdir()
    assert f"unexpected {type(error).__name__}" in message and "stage score/letters" in message
    assert str(log) in message and "please report it" in message
    assert "Traceback" in log.read_text() and type(error).__name__ in log.read_text()


def test_the_traceback_is_shown_where_no_file_can_be_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(cli, "_run_folders", [])
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(file))
    _, message = ending(KeyError("x"), capsys)
    assert "Traceback" in message and "the lines above" in message


def test_the_level_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.logger, "isEnabledFor", lambda level: level == logging.DEBUG)

    def main() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        cli.run_main(main)


def test_a_level_that_does_not_exist_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRPO_LOG", "loud")
    with pytest.raises(SystemExit):
        cli.run_main(lambda: None)
    assert "choose one of DEBUG, INFO" in capsys.readouterr().err


def test_an_exception_names_the_stage_in_which_it_came(tmp_path: Path) -> None:
    pipeline = Pipeline(tiny_recipe(tmp_path))
    with pytest.raises(KeyError) as raised, open_stage(pipeline, "prompts"):
        raise KeyError("x")
    assert raised.value.__notes__ == ["stage prompts"]


def _command(code: str, **env: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", f"from wrpo.cli import run_main\n{code}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **env},
    )


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    lines = "run_main(lambda: [print('a line of text') for _ in range(100_000)])"
    process = _command(lines)
    assert process.stdout and process.stderr
    assert process.stdout.readline() == b"a line of text\n"
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 141


def test_other_broken_pipes_are_errors() -> None:
    process = _command("def main():\n    raise BrokenPipeError('a worker')\nrun_main(main)")
    _, message = process.communicate()
    assert process.returncode == cli.UNEXPECTED and b"unexpected BrokenPipeError" in message


def test_a_terminal_of_ascii_shows_escapes() -> None:
    process = _command("run_main(lambda: print('\u4f60'))", PYTHONIOENCODING="ascii")
    out, message = process.communicate()
    assert process.returncode == 0 and out == b"\\u4f60\n", message


def test_streams_that_are_no_files_are_left_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    cli.run_main(lambda: None)

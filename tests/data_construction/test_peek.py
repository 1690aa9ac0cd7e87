"""What `peek` shows of a stage folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from data_construction.prompts import make_prompts
from tests.conftest import REPOSITORY
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import load_recipe


def test_it_shows_as_many_rows_as_were_asked_for(write_recipe, run_module) -> None:
    recipe = load_recipe(write_recipe(prompts=5))
    make_prompts(recipe)
    folder = Pipeline(recipe).finished("prompts")
    for count in (0, 2):
        shown = run_module("data_construction.peek", folder, "--rows", count)
        assert shown.returncode == 0 and "complete, 1 parts, 5 rows" in shown.stdout
        assert shown.stdout.count("user: Say") == count


def test_a_number_of_rows_below_none_is_refused(write_recipe, run_module, tmp_path) -> None:
    shown = run_module("data_construction.peek", tmp_path, "--rows=-1")
    assert shown.returncode == 2
    assert "-1 is no number of rows" in shown.stderr and "Traceback" not in shown.stderr


def test_rows_are_chosen_by_the_text_of_a_column(write_recipe, run_module) -> None:
    recipe = load_recipe(write_recipe(prompts=6))
    make_prompts(recipe)
    folder = Pipeline(recipe).finished("prompts")
    shown = run_module("data_construction.peek", folder, "--rows", 6, "--where", "domain=k1")
    assert shown.stdout.count("user: Say") == 3
    wrong = run_module("data_construction.peek", folder, "--where", "domian=k1")
    assert wrong.returncode == 2 and "no column domian; columns: prompt_id" in wrong.stderr


NASTY = "\x1b]0;title\x07\x1b[2J\rgone\u202e\x85"


def table(folder: Path, rows: int) -> Path:
    folder.mkdir()
    columns = {"te\x1b[2Jxt": [NASTY] * rows, "turns": [[{"role": NASTY, "content": "é"}]] * rows}
    pq.write_table(pa.table(columns), folder / "part-00000.parquet")
    return folder


def test_what_a_model_wrote_does_not_steer_the_terminal(run_module, tmp_path: Path) -> None:
    shown = run_module("data_construction.peek", table(tmp_path / "t", 2))
    assert shown.returncode == 0
    assert not set(shown.stdout) & set("\x1b\x07\r\x85\u202e")
    assert "\\x1b]0;title\\x07\\x1b[2J\\rgone\\u202e\\x85" in shown.stdout


def test_an_output_in_ascii_gets_escapes(tmp_path: Path) -> None:
    folder = table(tmp_path / "t", 2)
    command = [sys.executable, "-m", "data_construction.peek", str(folder)]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(command, cwd=REPOSITORY, env=ascii_only, capture_output=True)
    assert shown.returncode == 0 and b"\\xe9" in shown.stdout and shown.stderr == b""


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    folder = table(tmp_path / "t", 20_000)
    command = [sys.executable, "-m", "data_construction.peek", str(folder), "--rows", "20000"]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE

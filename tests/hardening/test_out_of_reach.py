"""What the operating system refuses is said as it is, and no file is called damaged for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_construction.datasets.files import read_file
from tests.support.recipe_files import tiny_recipe
from wrpo import cli
from wrpo.engines.local.adapter import lora_rank
from wrpo.judging.cache import JudgementCache
from wrpo.pipeline.folder import MANIFEST, read_manifest
from wrpo.pipeline.integrity import check_marks
from wrpo.pipeline.metrics_file import read_metrics
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import part_name, read_parquet
from wrpo.recipe import load_recipe
from wrpo.training.common import last_checkpoint

LOOP = "links to itself"
PART = part_name(0)
NOTHING_MADE: dict[str, object] = {"parts": 1, "key": {}}

READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "manifest": (MANIFEST, read_manifest),
    "part": (PART, lambda folder: read_parquet(folder / PART)),
    "footer": (PART, lambda folder: check_marks(folder, NOTHING_MADE)),
    "parquet dataset": ("a.parquet", lambda folder: list(read_file(folder / "a.parquet"))),
    "bz2 dataset": ("a.jsonl.bz2", lambda folder: list(read_file(folder / "a.jsonl.bz2"))),
    "recipe": ("r.yaml", lambda folder: load_recipe(folder / "r.yaml", [])),
    "adapter": ("adapter_config.json", lora_rank),
    "metrics": ("metrics.jsonl", lambda folder: read_metrics(folder / "metrics.jsonl")),
    "checkpoint": ("checkpoint-1/trainer_state.json", last_checkpoint),
    "judgements": ("cache.sqlite", lambda folder: JudgementCache(folder / "cache.sqlite")),
}


def message(main: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str:
    def command() -> None:
        main()

    with pytest.raises(SystemExit) as stopped:
        cli.run_main(command)
    assert stopped.value.code == cli.USER_ERROR
    said = capsys.readouterr().err
    assert said.count("error: ") == 1 and "Errno" not in said and "damaged" not in said
    return said.splitlines()[-1]


@pytest.mark.parametrize("name", READERS)
def test_a_file_out_of_reach_is_named_and_not_called_damaged(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, read = READERS[name]
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path)
    said = message(lambda: read(tmp_path), capsys)
    assert str(path) in said and ("leads to itself" in said or "allow it" in said), said


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_runs_being_a_file_is_said_of_every_stage(
    below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, f"runs={tmp_path / 'taken' / below}")
    (tmp_path / "taken").write_text("")
    pipeline = Pipeline(recipe)

    def opens(name: str) -> None:
        with open_stage(pipeline, name):
            pytest.fail("opened")

    for name in pipeline.stages:
        for use in (pipeline.state, pipeline.finished, opens):
            said = message(lambda use=use, name=name: use(name), capsys)  # type: ignore[misc]
            assert f"{tmp_path / 'taken'} is a file, and a folder is needed" in said


def test_a_folder_in_place_of_a_manifest_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / MANIFEST).mkdir()
    said = message(lambda: read_manifest(tmp_path), capsys)
    assert str(tmp_path / MANIFEST) in said and "it is a folder where a file is needed" in said


def test_a_recipe_that_is_a_folder_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = message(lambda: load_recipe(tmp_path, []), capsys)
    assert str(tmp_path) in said and "is a folder" in said

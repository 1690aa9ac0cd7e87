"""A finished folder that lost, gained or exchanged anything stops the stage that reads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.recipe_files import tiny_recipe
from wrpo.doctor.checks import CheckContext
from wrpo.doctor.folders import finished_stages
from wrpo.errors import DataError, MissingInputError
from wrpo.pipeline.folder import StageFolder, read_manifest
from wrpo.pipeline.integrity import VERIFY, check_folder
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import RESPONSES, Row, part_name
from wrpo.recipe import Recipe

STAGE, OTHER, COUNT = "sample/letters", "sample/numbers", 3


def responses(source: str, part: int, rows: int) -> list[Row]:
    unknown = dict.fromkeys(("token_ids", "token_count", "seed", "logprob"))
    row = {"source": source, "text": "a", "finish_reason": "stop", **unknown}
    return [{"prompt_id": f"{part}", "index": n, **row} for n in range(rows)]


@pytest.fixture
def finished(tmp_path: Path) -> Recipe:
    """Two sources with three parts of two responses each."""
    recipe = tiny_recipe(tmp_path)
    for stage in (STAGE, OTHER):
        with open_stage(Pipeline(recipe), stage, parts=COUNT) as work:
            for part in work.todo:
                work.write_part(part, responses(stage.split("/")[1], part, 2), RESPONSES)
    return recipe


def part(recipe: Recipe, number: int, stage: str = STAGE) -> Path:
    return Pipeline(recipe).folder(stage) / part_name(number)


def rewritten(path: Path, rows: int) -> None:
    table = pq.ParquetFile(path).read()
    pq.write_table(table.slice(0, rows), path)


def other_text(path: Path) -> None:
    table = pq.ParquetFile(path).read()
    column = table.schema.get_field_index("text")
    changed = ["b"] * table.num_rows
    pq.write_table(table.set_column(column, table.schema.field(column), [changed]), path)


DAMAGES: dict[str, tuple[Callable[[Recipe], object], str]] = {
    "fewer rows": (lambda r: rewritten(part(r, 1), 1), "holds 1 rows, and the manifest says 2"),
    "no rows": (lambda r: rewritten(part(r, 1), 0), "holds 0 rows"),
    "empty file": (lambda r: part(r, 1).write_bytes(b""), "not readable as parquet"),
    "a part twice": (lambda r: shutil.copy(part(r, 0), part(r, 1)), "copy of part-00000"),
    "a part more": (lambda r: shutil.copy(part(r, 0), part(r, 3)), "has 3 parts, and this is none"),
    "another source": (lambda r: shutil.copy(part(r, 1, OTHER), part(r, 1)), "of another stage"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_as_it_was_stops_the_reader_with_the_way_out(
    damage: str, finished: Recipe
) -> None:
    pipeline = Pipeline(finished)
    assert pipeline.finished(STAGE)
    harm, message = DAMAGES[damage]
    harm(finished)
    with pytest.raises(
        DataError, match=rf"part-0000\d\.parquet: .*{message}.*delete this file.*"
    ) as e:
        pipeline.finished(STAGE)
    assert "data_construction.sample --source letters" in str(e.value)
    assert pipeline.finished(OTHER)


def test_a_lost_part_is_not_finished(finished: Recipe) -> None:
    part(finished, 1).unlink()
    with pytest.raises(MissingInputError, match="not finished; make it with"):
        Pipeline(finished).finished(STAGE)


def test_deleting_what_is_named_and_running_again_is_the_way_out(finished: Recipe) -> None:
    rewritten(part(finished, 1), 1)
    part(finished, 1).unlink()
    with open_stage(Pipeline(finished), STAGE, parts=COUNT) as work:
        assert work.todo == [1]
        work.write_part(1, responses("letters", 1, 2), RESPONSES)
    assert Pipeline(finished).finished(STAGE)


def test_digests_are_compared_on_request_and_by_the_doctor(
    finished: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline(finished)
    assert [finding.level for finding in finished_stages(CheckContext(finished))] == ["ok"]
    other_text(part(finished, 1))
    assert pipeline.finished(STAGE)
    problem, *_ = finished_stages(CheckContext(finished))
    assert problem.subject == STAGE and "changed after the stage had finished" in problem.message
    monkeypatch.setenv(VERIFY, "1")
    with pytest.raises(DataError, match="changed after the stage had finished"):
        pipeline.finished(STAGE)


def test_a_stage_does_not_go_on_beside_a_part_of_another(finished: Recipe, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, "run=second")
    with open_stage(Pipeline(recipe), STAGE, parts=COUNT) as work:
        work.write_part(0, responses("letters", 0, 2), RESPONSES)
    shutil.copy(part(finished, 1, OTHER), part(recipe, 1))
    with (
        pytest.raises(DataError, match="of another stage"),
        open_stage(Pipeline(recipe), STAGE, parts=COUNT),
    ):
        pass


def test_a_changed_or_lost_model_file_is_named_and_its_card_may_be_edited(tmp_path: Path) -> None:
    folder = StageFolder(tmp_path / "sft", {"a": 1})
    folder.open()
    model = tmp_path / "sft" / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors", "README.md"):
        (model / name).write_text(name)
    folder.finish()
    manifest = read_manifest(folder.path)
    assert manifest
    (model / "README.md").write_text("edited")
    check_folder(folder.path, manifest)
    (model / "model.safetensors").write_text("model.safetensorz")
    with pytest.raises(
        DataError, match=r"model\.safetensors: was changed after.*put the file back"
    ):
        check_folder(folder.path, manifest)
    (model / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors: is gone"):
        check_folder(folder.path, manifest)


def test_a_folder_of_an_older_version_is_compared_by_its_rows(finished: Recipe) -> None:
    folder = Pipeline(finished).folder(STAGE)
    manifest = read_manifest(folder) or {}
    del manifest["files"]
    for number in range(COUNT):
        rewritten(part(finished, number), 2)  # without its mark
    check_folder(folder, manifest)
    rewritten(part(finished, 1), 1)
    with pytest.raises(DataError, match="hold 5 rows, and its manifest says 6"):
        check_folder(folder, manifest)

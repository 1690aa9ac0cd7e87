"""What training stages share: the folder is one command's, and resuming reads whole checkpoints."""

from pathlib import Path

import pytest

from tests.support.recipe_files import tiny_recipe
from wrpo.errors import MissingInputError, StageError
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import SFT_ROWS, TRIPLES
from wrpo.recipe import Recipe
from wrpo.train import train_arm
from wrpo.train_sft import train_sft
from wrpo.training.common import last_checkpoint, warn_of_many_passes
from wrpo.training.settings import Training


def checkpoint(folder: Path, step: int, state: str | None = '{"global_step": 1}') -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    if state is not None:
        (made / "trainer_state.json").write_text(state)
    return made


def test_the_last_checkpoint_is_the_one_of_the_latest_step(tmp_path: Path) -> None:
    checkpoint(tmp_path, 9)
    assert last_checkpoint(tmp_path) != (latest := checkpoint(tmp_path, 10))
    assert last_checkpoint(tmp_path) == latest


@pytest.mark.parametrize("state", [None, "", '{"global_step"'])
def test_a_checkpoint_that_a_kill_left_half_written_is_not_resumed_from(
    tmp_path: Path, state: str | None
) -> None:
    whole = checkpoint(tmp_path, 9)
    checkpoint(tmp_path, 10, state)
    assert last_checkpoint(tmp_path) == whole


def test_without_a_whole_checkpoint_training_begins_anew(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nothing") is None
    checkpoint(tmp_path, 3, None)
    assert last_checkpoint(tmp_path) is None


def test_a_stage_without_its_inputs_claims_no_folder(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    with pytest.raises(MissingInputError):
        train_sft(recipe)
    assert Pipeline(recipe).state("sft") == "missing"


def finish(recipe: Recipe, name: str, schema: object = None) -> None:
    pipeline = Pipeline(recipe)
    folder = StageFolder(pipeline.folder(name), pipeline.key(name))
    folder.open()
    if schema is None:
        folder.finish()
    else:
        folder.finish_parts(folder.write_table([], schema))


def test_a_second_command_is_refused_before_it_reads_or_loads_anything(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, "wrpo.reference=model")
    finish(recipe, "build/sft", SFT_ROWS)
    finish(recipe, "build/triples", TRIPLES)
    held = StageFolder(Pipeline(recipe).folder("sft"), {}).lock()
    with held, pytest.raises(StageError, match="another process is writing this stage"):
        train_sft(recipe)
    finish(recipe, "sft")
    held = StageFolder(Pipeline(recipe).folder("wrpo"), {}).lock()
    with held, pytest.raises(StageError, match="another process is writing this stage"):
        train_arm(recipe, "wrpo")


@pytest.mark.parametrize(
    ("steps", "rows", "warned"),
    [(120, 728, False), (120, 79, True), (-1, 1, False), (120, 0, True)],
)
def test_many_passes_over_few_rows_are_said(
    steps: int, rows: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Training(global_batch_size=32, train={"max_steps": steps})
    warn_of_many_passes(settings, rows, where="wrpo-round-3")
    assert ("wrpo-round-3.train.max_steps is 120" in caplog.text) == warned

"""What `python -m wrpo status` says of stages at work, finished and stale."""

import json
import math
import os
import time
from dataclasses import asdict, replace

import pytest

from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.metrics_file import METRICS
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.status import (
    StageStatus,
    _draw,
    duration,
    run_status,
    stage_status,
    status_json,
    status_text,
)
from wrpo.pipeline.tables import RESPONSES, Drop, Row
from wrpo.recipe import load_recipe


@pytest.fixture
def pipeline(write_recipe) -> Pipeline:
    return Pipeline(load_recipe(write_recipe()))


def response(number: int) -> Row:
    return {"prompt_id": f"p{number}", "source": "one", "index": 0, "text": "x"}


def begun(pipeline: Pipeline, name: str, *, parts: int | None, ages: list[float]) -> StageFolder:
    """A stage with one part for each age in seconds, two rows in each, one row dropped."""
    folder = StageFolder(pipeline.folder(name), pipeline.key(name))
    folder.open(parts=parts)
    for part, age in enumerate(ages):
        dropped = [Drop("empty").row("p")] if part == 0 else None
        folder.write_part(part, [response(0), response(1)], RESPONSES, dropped=dropped)
        path = folder.path / f"part-{part:05d}.parquet"
        os.utime(path, (time.time() - age, time.time() - age))
    return folder


def test_a_stage_that_was_not_begun(pipeline: Pipeline) -> None:
    assert stage_status(pipeline, "sample/one") == StageStatus("sample/one", "missing")


def test_a_stage_at_work_has_a_rate_and_a_time_left(pipeline: Pipeline) -> None:
    begun(pipeline, "sample/one", parts=10, ages=[40, 30, 20, 10])
    status = stage_status(pipeline, "sample/one")
    assert (status.state, status.done, status.total) == ("partial", 4, 10)
    assert (status.rows, status.dropped) == (8, 1)
    assert status.rate == pytest.approx(0.1, rel=0.01)
    assert status.left_s == pytest.approx(6 * 10 - 10, abs=2)
    assert status.quiet_s == pytest.approx(10, abs=2)


def test_the_rate_forgets_what_lies_before_a_pause(pipeline: Pipeline) -> None:
    begun(pipeline, "sample/one", parts=10, ages=[9040, 9030, 9020, 9010, 20, 10, 0])
    status = stage_status(pipeline, "sample/one")
    assert status.rate == pytest.approx(0.1, rel=0.01)


def test_one_part_makes_no_rate(pipeline: Pipeline) -> None:
    begun(pipeline, "sample/one", parts=10, ages=[5])
    status = stage_status(pipeline, "sample/one")
    assert (status.rate, status.left_s) == (None, None)


def test_a_stage_whose_parts_are_not_counted_yet(pipeline: Pipeline) -> None:
    begun(pipeline, "sample/one", parts=None, ages=[20, 10])
    status = stage_status(pipeline, "sample/one")
    assert (status.total, status.left_s) == (None, None)
    assert any("2/? parts" in line for line in status_text("test", [status]))


def test_a_finished_stage(pipeline: Pipeline) -> None:
    folder = begun(pipeline, "sample/one", parts=2, ages=[2, 1])
    folder.finish_parts(2)
    status = stage_status(pipeline, "sample/one")
    assert (status.state, status.done, status.total) == ("done", 2, 2)
    assert (status.rows, status.dropped) == (4, 1)


def test_a_damaged_part_is_no_reason_to_stop(pipeline: Pipeline) -> None:
    folder = begun(pipeline, "sample/one", parts=3, ages=[2, 1])
    (folder.path / "part-00001.parquet").write_bytes(b"half")
    assert stage_status(pipeline, "sample/one").rows == 2


@pytest.fixture
def training(pipeline: Pipeline) -> Pipeline:
    folder = StageFolder(pipeline.folder("wrpo"), pipeline.key("wrpo"))
    folder.open()
    now = time.time()
    records = [
        {"step": step, "max_steps": 40, "time": now - 2 * (12 - step), "loss": 0.7 - step / 100}
        | {"alpha": step / 100, "rewards/source_chosen": 0.5, "rewards/rejected": -0.25}
        | {"rewards/chosen": 0.125, "learning_rate": 1e-5, "grad_norm": 2.0}
        for step in (4, 8, 12)
    ]
    lines = [json.dumps(record) for record in records]
    (folder.path / METRICS).write_text("\n".join(lines) + "\n")
    return pipeline


def test_a_training_stage_shows_steps_and_metrics(training: Pipeline) -> None:
    status = stage_status(training, "wrpo")
    assert (status.state, status.unit, status.done, status.total) == ("partial", "steps", 12, 40)
    assert status.rate == pytest.approx(0.5)
    assert status.left_s == pytest.approx(56, abs=2)
    assert status.metrics == {
        "loss": pytest.approx(0.58),
        "alpha": 0.12,
        "source": 0.5,
        "target": 0.125,
        "rejected": -0.25,
        "lr": 1e-5,
    }
    [line] = [line for line in status_text("test", [status]) if line.startswith("partial")]
    assert "12/40 steps" in line
    assert "30 steps/min" in line
    assert "source 0.5, target 0.125, rejected -0.25, lr 1e-05" in line
    assert line.count("█") == 5


def test_the_json_has_one_object_per_stage(training: Pipeline) -> None:
    stages = run_status(training)
    read = json.loads(status_json(stages))
    assert [stage["name"] for stage in read] == list(training.stages)
    assert read == [asdict(stage) for stage in stages]


def test_a_loss_that_is_no_number_is_null_in_the_json(training: Pipeline) -> None:
    stage = replace(stage_status(training, "wrpo"), metrics={"loss": math.nan, "alpha": 0.1})
    [read] = json.loads(status_json([stage]), parse_constant=pytest.fail)
    assert read["metrics"] == {"loss": None, "alpha": 0.1}


def test_the_command_watches_until_all_is_done(write_recipe, run_module) -> None:
    path = write_recipe()
    pipeline = Pipeline(load_recipe(path))
    for name in pipeline.stages:
        folder = StageFolder(pipeline.folder(name), pipeline.key(name))
        folder.open()
        folder.finish(rows=1)
    result = run_module("wrpo", "status", "--watch", "0.1", "--recipe", path)
    assert result.returncode == 0, result.stderr
    assert f"{len(pipeline.stages)} of {len(pipeline.stages)} stages done" in result.stdout
    assert "took" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_terminal_is_cleared_and_keeps_what_is_at_work(monkeypatch, capsys) -> None:
    lines = ["run x", "done     prompts", "running  sample/one", "missing  sft", "missing  wrpo"]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((18, 4)))
    _draw(lines)
    shown = capsys.readouterr().out
    assert "sample/o" in shown and "sample/one" not in shown  # as wide as the terminal
    assert "missing" not in shown
    assert shown.count("\n") < 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.4, "3 s"), (59.9, "60 s"), (90, "2 min"), (12000, "3 h 20 min"), (187_300, "2 d 4 h")],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text

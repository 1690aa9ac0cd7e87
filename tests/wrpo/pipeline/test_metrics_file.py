"""metrics.jsonl: one record per step, whatever was killed or done again."""

import json
from pathlib import Path

import pytest

from wrpo.pipeline.metrics_file import append_metrics, read_metrics, training_records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def log(path: Path, step: int, **logs: float) -> None:
    append_metrics(path, step=step, max_steps=10, logs=logs or {"loss": float(step)})


def steps(path: Path) -> list[int]:
    return [record["step"] for record in training_records(path)]


def test_nothing_was_logged_yet(path: Path) -> None:
    assert read_metrics(path) == []


def test_records_come_back(path: Path) -> None:
    log(path, 1, loss=0.5, alpha=0.1)
    [record] = read_metrics(path)
    assert (record["step"], record["max_steps"], record["alpha"]) == (1, 10, 0.1)
    assert record["time"] > 1e9


def test_a_resumed_run_takes_back_what_it_does_again(path: Path) -> None:
    for step in (1, 2, 3, 4):
        log(path, step)
    for step in (3, 4, 5):
        log(path, step, loss=10.0 * step)
    assert steps(path) == [1, 2, 3, 4, 5]
    assert [record["loss"] for record in training_records(path)] == [1, 2, 30, 40, 50]


def test_a_run_that_begins_again_shows_no_later_step(path: Path) -> None:
    for step in (1, 2, 3, 1):
        log(path, step)
    assert steps(path) == [1]


def test_kinds_of_one_step_stand_beside_each_other(path: Path) -> None:
    log(path, 2)
    log(path, 2, eval_loss=0.4)
    log(path, 2, train_runtime=3.0, train_loss=0.3)
    assert len(read_metrics(path)) == 3
    assert steps(path) == [2]
    log(path, 2)
    assert len(read_metrics(path)) == 1


def test_half_a_line_costs_that_line_only(path: Path) -> None:
    log(path, 1)
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert steps(path) == [1]
    log(path, 3)
    assert steps(path) == [1, 3]
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("line", ["[]", "3", '{"step": "x"}', "{}", "\x00\x00"])
def test_lines_of_another_kind_are_left_out(path: Path, line: str) -> None:
    path.write_text(line + "\n")
    log(path, 1)
    assert steps(path) == [1]


def test_values_of_other_number_types_are_written(path: Path) -> None:
    import torch

    log(path, 1, loss=torch.tensor(0.5))
    assert json.loads(path.read_text())["loss"] == 0.5

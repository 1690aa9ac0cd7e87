"""The SFT stage on imported rows: what it leaves out names file and row, and a loss that is no
number ends it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from data_construction.build import build_table
from wrpo.errors import ModelError
from wrpo.pipeline.folder import DROPPED_FILE
from wrpo.pipeline.metrics_file import METRICS, broken_loss, training_records
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.status import stage_status, status_text
from wrpo.pipeline.tables import read_parquet
from wrpo.recipe import Recipe, load_recipe
from wrpo.train_sft import train_sft

ROWS = 5


@pytest.fixture
def recipe(write_recipe: Callable[..., Path], tmp_path: Path) -> Callable[..., Recipe]:
    """SFT on five imported rows, the last of which has a long prompt."""
    asked = [*(f"q{n}" for n in range(ROWS - 1)), "x" * 300]
    lines = [json.dumps({"prompt": prompt, "completion": "sea"}) for prompt in asked]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    train = {"max_steps": 3, "logging_steps": 3, "gradient_checkpointing": False}
    path = write_recipe(
        build={"imported": {"sft": {"path": str(tmp_path / "rows.jsonl")}}},
        sft={"global_batch_size": 2, "train": {**train, "save_strategy": "no"}},
        truncation={"max_length": 64},
    )

    def load(*overrides: str) -> Recipe:
        loaded = load_recipe(path, overrides)
        build_table(loaded, "sft")
        return loaded

    return load


def test_a_row_that_is_left_out_is_named_by_file_and_number(
    recipe: Callable[..., Recipe], caplog: pytest.LogCaptureFixture
) -> None:
    loaded = recipe("sft.train.learning_rate=1e-4")
    train_sft(loaded)
    (dropped,) = read_parquet(Pipeline(loaded).finished("sft") / DROPPED_FILE)
    assert f"rows.jsonl row {ROWS}: the prompt has" in dropped["detail"]
    assert f"1 of {ROWS} rows cannot be trained on; the first is " in caplog.text
    assert f"rows.jsonl row {ROWS}: " in caplog.text


def test_a_loss_that_is_no_number_stops_the_stage_and_its_status_says_so(
    recipe: Callable[..., Recipe],
) -> None:
    loaded = recipe("sft.train.learning_rate=1e30")
    with pytest.raises(ModelError, match=r"sft\.train: the loss of step 2 is .* learning_rate"):
        train_sft(loaded)
    pipeline = Pipeline(loaded)
    assert pipeline.state("sft") == "partial"
    assert not (pipeline.folder("sft") / "model").exists()
    broken = broken_loss(training_records(pipeline.folder("sft") / METRICS))
    assert broken is not None and not math.isfinite(broken[1])
    text = "\n".join(status_text("test", [stage_status(pipeline, "sft")]))
    assert "NOT TRAINED: the loss of step" in text

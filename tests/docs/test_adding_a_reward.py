"""docs/adding-a-reward.md works as it stands there: its file, its test, its recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.docs.changed_code import ChangedCode, named_files
from wrpo.pipeline.tables import read_rows

PAGE = "adding-a-reward.md"


@pytest.mark.slow
def test_the_test_of_the_page_passes(tmp_path: Path) -> None:
    ChangedCode(tmp_path, PAGE).run_tests()


@pytest.mark.slow
def test_the_reward_scores_the_responses_of_a_run(finished_run: Path, tmp_path: Path) -> None:
    code = ChangedCode(tmp_path / "code", PAGE)
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "test").symlink_to(finished_run.parent / "runs" / "test")
    [section] = yaml.safe_load(named_files(PAGE)["recipes/mine.yaml"])["rewards"].values()
    rewards = json.dumps({"short": {**section, "words": 2, "weight": 1.0}})
    changes = [f"runs={runs}", "run=shorter", "reuse=test", f"rewards={rewards}"]
    code.run("data_construction.score", "--source", "one", "--recipe", finished_run, *changes)
    responses = {
        (row["prompt_id"], row["index"]): len(row["text"].split())
        for row in read_rows(runs / "test" / "sample" / "one")
    }
    rows = read_rows(runs / "shorter" / "score" / "one")
    assert rows
    for row in rows:
        assert row["score"] == min(1.0, 2 / responses[row["prompt_id"], row["index"]])

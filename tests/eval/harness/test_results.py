"""The rows and JSON that an evaluation leaves."""

import json
from pathlib import Path

import numpy as np
import pytest

from eval.harness.results import (
    SAMPLES,
    plain,
    read_results,
    read_samples,
    sample_row,
    write_results,
)
from wrpo.errors import DataError
from wrpo.pipeline.folder import StageFolder


def logged(**changes: object) -> dict[str, object]:
    """One of lm-eval's logged samples."""
    sample: dict[str, object] = {
        "doc_id": 3,
        "doc": {"question": "1 + 1", "n": np.int64(2)},
        "filter": "none",
        "arguments": [("<user>1 + 1", {"until": []})],
        "resps": [["two"]],
        "filtered_resps": ["two"],
        "target": "2",
        "metrics": ["acc", "detail"],
        "acc": np.bool_(True),
        "detail": [0.1, 0.2],
    }
    return sample | changes


def test_a_sample_keeps_prompt_answer_and_numeric_metrics() -> None:
    row = sample_row("quiz", logged(), question="1 + 1")
    assert (row["task"], row["doc_id"], row["question"]) == ("quiz", 3, "1 + 1")
    assert (row["prompt"], row["response"], row["target"]) == ("<user>1 + 1", "two", "2")
    assert json.loads(row["doc"]) == {"question": "1 + 1", "n": 2}
    assert row["metrics"] == [{"name": "acc", "value": 1.0}]


def test_log_likelihoods_are_kept_as_json() -> None:
    resps = [[(-1.5, True)], [(-2.0, False)]]
    row = sample_row("quiz", logged(resps=resps), question="")
    assert json.loads(row["response"]) == [[[-1.5, True]], [[-2.0, False]]]


def test_samples_of_two_filters_become_one_with_both_metrics(tmp_path: Path) -> None:
    rows = [
        sample_row("gsm", logged(filter=name, acc=value), question="")
        for name, value in (("strict", 0.0), ("flexible", 1.0))
    ]
    folder = StageFolder(tmp_path / "eval", {})
    folder.open()
    folder.write_part(0, rows, SAMPLES)
    (sample,) = read_samples(folder.path)
    assert sample.values == {"acc (strict)": 0.0, "acc (flexible)": 1.0}


def test_results_come_back_as_plain_json(tmp_path: Path) -> None:
    write_results(
        tmp_path, {"tasks": {}, "a": np.float32(0.5), "b": float("nan"), "c": (np.int64(1), len)}
    )
    assert read_results(tmp_path) == {"tasks": {}, "a": 0.5, "b": None, "c": [1, "len"]}


def test_damaged_results_name_the_file_and_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"results\.json: damaged .* evaluate again"):
        read_results(tmp_path)


def test_plain_keeps_booleans_apart_from_numbers() -> None:
    assert plain({"a": True, "b": np.float64(1.0)}) == {"a": True, "b": 1.0}
    assert plain(True) is True
    assert plain(np.bool_(False)) is False

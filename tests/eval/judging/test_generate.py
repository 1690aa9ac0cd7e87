"""`python -m eval.generate`: real responses of a tiny model, with the benchmark's decoding."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval import generate
from tests.eval.judging.benchmark_files import write_arena_hard, write_judge_recipe, write_mt_bench
from wrpo.benchmarks.mt_bench import TEMPERATURES
from wrpo.errors import RecipeError
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_rows
from wrpo.recipe import load_recipe

JUDGE = {"model": "org/judge", "engine": {"endpoints": ["http://localhost:1/v1"]}}


@pytest.fixture
def recipe_path(tmp_path: Path, tiny_model: Path) -> Path:
    decoding = {"max_tokens": 12}
    judged = {
        "arena_hard": {"judge": "big", "decoding": decoding, **write_arena_hard(tmp_path)},
        "mt_bench": {"judge": "big", "decoding": decoding, "limit": 4, **write_mt_bench(tmp_path)},
    }
    return write_judge_recipe(tmp_path, tiny_model, JUDGE, judged)


def test_answers_are_generated_for_all_turns_and_a_second_start_does_the_rest(
    recipe_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recipe = load_recipe(recipe_path)
    pipeline = Pipeline(recipe)
    monkeypatch.setattr(generate, "QUESTIONS_PER_PART", 2)
    generate.generate_responses(recipe, "mt_bench", "target")
    folder = pipeline.finished("responses/mt_bench/target")
    rows = read_rows(folder)
    assert [row["number"] for row in rows] == list(range(4))
    assert all(len(row["responses"]) == 2 and all(row["responses"]) for row in rows)
    # Bytes that are no text come back as one character of three bytes.
    assert all(1 <= tokens <= 3 * 12 for row in rows for tokens in row["tokens"])
    assert [row["temperature"] for row in rows] == [TEMPERATURES[row["category"]] for row in rows]
    kept = (folder / "part-00000.parquet").stat().st_mtime_ns
    (folder / "part-00001.parquet").unlink()
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
    caplog.set_level("INFO")
    generate.generate_responses(recipe, "mt_bench", "target")
    assert "1 of 2 parts to do" in caplog.text
    assert (folder / "part-00000.parquet").stat().st_mtime_ns == kept
    assert read_rows(folder) == rows


def test_decoding_that_cannot_be_done_is_refused(recipe_path: Path) -> None:
    setting = "eval.judged.arena_hard.decoding"
    with pytest.raises(RecipeError, match=r"presence_penalty only exists with eval\.backend=vllm"):
        penalised = load_recipe(recipe_path, [f"{setting}.presence_penalty=0.1"])
        generate.generate_responses(penalised, "arena_hard", "target")
    longer = load_recipe(recipe_path, [f"{setting}.max_tokens=512", "run=other"])
    with pytest.raises(RecipeError, match=r"context of 512 of target; set eval\.judged"):
        generate.generate_responses(longer, "arena_hard", "target")
    assert not Pipeline(load_recipe(recipe_path)).folder("responses").exists()

"""The judge path against a real `vllm serve`: protocol, swap, log-probs, resume after kill -9."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.harness.results import read_results
from eval.judge import judge_responses, judging_dry_run
from tests.eval.judging.benchmark_files import (
    write_alpaca_eval,
    write_arena_hard,
    write_judge_recipe,
    write_mt_bench,
)
from tests.eval.judging.responses import response
from tests.support.commands import Command
from tests.support.vllm_server import vllm_serve
from wrpo.judging import cache_path
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import read_rows
from wrpo.recipe import Recipe, load_recipe


def judgements(path: Path) -> int:
    """Rows of the cache, read while another process writes it; 0 before there is a table."""
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM judgements").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


@pytest.mark.slow
def test_a_tiny_model_judges_three_benchmarks_and_survives_a_kill(tmp_path: Path) -> None:
    from tests.support.tiny_models import save_tiny, tiny_tokenizer

    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    model = save_tiny(tmp_path / "judge", max_position_embeddings=4096, **shape)
    with vllm_serve(model, max_model_len=4096, logprobs_mode="processed_logprobs") as url:
        path = _write_recipe(tmp_path, model, url, tiny_tokenizer().convert_tokens_to_ids)
        recipe = load_recipe(path)
        for name in recipe.eval.judged:
            response(recipe, name, "target")
        _kill_while_judging(path, cache_path(recipe.runs))
        kept = judgements(cache_path(recipe.runs))
        assert 0 < kept < 40
        assert f"40 judgements, {kept} of them cached" in judging_dry_run(
            recipe, "arena_hard", "target"
        )
        judge_responses(recipe, model="target")
        assert judgements(cache_path(recipe.runs)) == 40 + 24 + 16
    _check_arena_hard(recipe, kept)
    _check_alpaca_eval(recipe)
    ratings = _results(recipe, "mt_bench")
    assert (ratings["verdicts"], ratings["parse_failures"]) == (16, 0)
    assert 1 <= ratings["tasks"]["mt_bench"]["metrics"]["score,none"]["value"] <= 9


def _write_recipe(folder: Path, model: Path, url: str, token_id: Callable[[str], int]) -> Path:
    """One server, three judges: a random model is held to the words of each protocol."""
    engine = {"endpoints": [url], "concurrency": 2}
    served = {"model": str(model), "max_tokens": 24, "engine": engine}
    labels = {str(token_id(label)): 60 for label in ("m", "M")}
    choices = {"choice": ["[[A>>B]]", "[[A>B]]", "[[A=B]]", "[[B>A]]", "[[B>>A]]"]}
    judges = {
        "labels": {**served, "body": {"logit_bias": labels}},
        "verdicts": {**served, "body": {"structured_outputs": choices}},
        "grades": {**served, "body": {"structured_outputs": {"regex": r"\[\[[1-9]\]\]"}}},
    }
    alpaca = {**write_alpaca_eval(folder), "prompt": "own", "both_orders": True}
    judged = {
        "alpaca_eval_2": {"judge": "labels", **alpaca},
        "arena_hard": {"judge": "verdicts", **write_arena_hard(folder, n=20)},
        "mt_bench": {"judge": "grades", **write_mt_bench(folder)},
    }
    return write_judge_recipe(folder, model, served, judged, judges=judges)


def _kill_while_judging(recipe: Path, cache: Path) -> None:
    flags = ("--recipe", recipe, "--model", "target", "--benchmark", "arena_hard")
    process = Command("eval.judge", *flags)
    deadline = time.monotonic() + 300
    while judgements(cache) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def _results(recipe: Recipe, benchmark: str) -> dict[str, Any]:
    return read_results(Pipeline(recipe).finished(f"judge/{benchmark}/target"))


def _check_arena_hard(recipe: Recipe, kept: int) -> None:
    results = _results(recipe, "arena_hard")
    assert (results["verdicts"], results["parse_failures"], results["refused"]) == (40, 0, 0)
    assert (results["cost"]["judgements"], results["cost"]["cached"]) == (40, kept)
    assert results["position"]["flipped_n"] == 20
    assert 0 <= results["tasks"]["arena_hard"]["metrics"]["winrate,none"]["value"] <= 100


def _check_alpaca_eval(recipe: Recipe) -> None:
    results = _results(recipe, "alpaca_eval_2")
    assert results["judge"]["name"] == "labels"
    assert results["protocol"]["weighted_by_logprobs"] == 24 and results["parse_failures"] == 0
    assert results["cost"]["tokens"]["output"] == 24
    preferences = [
        game
        for row in read_rows(Pipeline(recipe).finished("judge/alpaca_eval_2/target"))
        for game in json.loads(row["doc"])["games"]
    ]
    assert len(preferences) == 24 and all(0 < game < 1 for game in preferences)

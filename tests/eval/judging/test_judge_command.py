"""`python -m eval.judge` against a stand-in server: cost first, verdicts kept, results, stages."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eval.harness.results import read_results, read_samples
from eval.judge import judge_responses, judging_dry_run
from eval.judging.batch import JudgeBatch
from eval.report import report_run
from eval.reporting.evidence import read_run
from eval.reporting.judged_table import judged_tables
from eval.reporting.page import markdown
from eval.reporting.sections.judged import judged
from tests.eval.judging.benchmark_files import (
    write_alpaca_eval,
    write_arena_hard,
    write_judge_recipe,
    write_mt_bench,
)
from tests.eval.judging.longer_is_better import LongerIsBetter
from tests.eval.judging.responses import response
from tests.support.commands import Command
from tests.support.completion_server import CompletionServer
from wrpo.errors import DataError, MissingInputError, RecipeError, StageError
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import Recipe, load_recipe


@pytest.fixture
def script() -> LongerIsBetter:
    return LongerIsBetter()


@pytest.fixture
def server(script: LongerIsBetter) -> Iterator[CompletionServer]:
    started = CompletionServer(script)
    yield started
    started.close()


@pytest.fixture
def recipe_path(tmp_path: Path, server: CompletionServer) -> Path:
    """Three benchmarks judged by the server; the target and the source are hub models."""
    engine = {"endpoints": [server.url], "concurrency": 2}
    prices = {"input_price": 10.0, "output_price": 30.0}
    judge = {"model": "org/judge", "engine": {**engine, **prices}}
    judged = {
        "alpaca_eval_2": {**write_alpaca_eval(tmp_path), "prompt": "own", "logprobs": False},
        "arena_hard": write_arena_hard(tmp_path),
        "mt_bench": write_mt_bench(tmp_path),
    }
    full = {name: {"judge": "big", **fields} for name, fields in judged.items()}
    return write_judge_recipe(tmp_path, "org/model", judge, full)


def results_of(recipe: Recipe, benchmark: str, model: str) -> dict[str, Any]:
    return read_results(Pipeline(recipe).finished(f"judge/{benchmark}/{model}"))


def test_the_cost_is_shown_before_anything_is_asked(
    recipe_path: Path, server: CompletionServer
) -> None:
    recipe = load_recipe(recipe_path)
    response(recipe, "arena_hard", "target")
    shown = judging_dry_run(recipe, "arena_hard").splitlines()
    match = re.search(
        r"12 judgements, 0 of them cached; 12 to ask: (\d+) input and (\d+)", shown[0]
    )
    assert match and shown[0].startswith("judge/arena_hard/target: ")
    tokens = [int(number) for number in match.groups()]
    dollars = re.search(r"\$(\d+\.\d\d)", shown[0])
    assert dollars and float(dollars[1]) == pytest.approx(
        (tokens[0] * 10 + tokens[1] * 30) / 1e6, abs=0.005
    )
    assert shown[1].startswith("judge/arena_hard/one: needs ")
    assert "python -m eval.generate --benchmark arena_hard --model one" in shown[1]
    assert server.seen == []


@pytest.mark.slow
@pytest.mark.usefixtures("empty_charts")
def test_every_benchmark_is_judged_and_its_results_say_by_whom(
    recipe_path: Path, server: CompletionServer
) -> None:
    recipe = load_recipe(recipe_path)
    for benchmark in recipe.eval.judged:
        for model, text in (("target", "No. "), ("one", "It is so, and more than that. ")):
            response(recipe, benchmark, model, text)
            judge_responses(recipe, benchmark, model)
    asked = len(server.seen)
    assert asked == 2 * (12 + 2 * 6 + 2 * 8)
    for benchmark, metric, n in (
        ("alpaca_eval_2", "length_controlled_winrate", 12),
        ("arena_hard", "winrate", 6),
        ("mt_bench", "score", 8),
    ):
        results = results_of(recipe, benchmark, "one")
        task = results["tasks"][benchmark]
        assert (task["n"], task["main_metric"]) == (n, metric)
        assert results["judge"]["name"] == "big" and results["judge"]["model"] == "org/judge"
        assert "not comparable" in results["judge_prompt"]["comparable"]
        assert (results["parse_failures"], results["refused"]) == (0, 0)
        assert results["cost"]["tokens"]["output"] == 5 * results["verdicts"]
        assert results["cost"]["dollars"] > 0
        samples = read_samples(Pipeline(recipe).finished(f"judge/{benchmark}/one"))
        assert len(samples) == n
        for name in samples[0].values:
            found = task["metrics"][f"{name},none"]["value"]
            values = [sample.values[name] for sample in samples]
            assert sum(values) / n == pytest.approx(found)
    assert results_of(recipe, "arena_hard", "one")["position"]["flipped"] == 0.0
    arena = [results_of(recipe, "arena_hard", m)["tasks"]["arena_hard"] for m in ("target", "one")]
    low, high = (task["metrics"]["winrate,none"]["value"] for task in arena)
    assert low < high
    judge_responses(recipe, "mt_bench", "target")
    assert len(server.seen) == asked

    _check_report(recipe)


def _check_report(recipe: Recipe) -> None:
    """The report shows what was judged, each benchmark with its judge."""
    tables = judged_tables(read_run(recipe))
    assert {table.benchmark for table in tables} == set(recipe.eval.judged)
    for table in tables:
        assert set(table.results) == {"target", "one"}
        text = markdown(judged(recipe, table))
        assert "org/judge" in text and "not comparable" in text
        main = table.results["one"]["tasks"][table.benchmark]["main_metric"]
        shown = table.metrics()[main]["one"]
        assert shown.low <= shown.value <= shown.high
    page = (report_run(recipe) / "report.md").read_text("utf-8")
    assert "Judged: arena_hard" in page and "Judge **org/judge**" in page
    assert "mt_bench: wrpo, missing: `python -m eval.judge --benchmark mt_bench --model" in page
    assert Pipeline(recipe).state("report") == "partial", "the other models are not judged"


def test_a_killed_judge_goes_on_with_what_is_missing(
    recipe_path: Path,
    server: CompletionServer,
    script: LongerIsBetter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recipe = load_recipe(recipe_path)
    response(recipe, "mt_bench", "target")
    script.slow_from = 9
    flags = ["--recipe", str(recipe_path), "--benchmark", "mt_bench", "--model", "target"]
    process = Command("eval.judge", *flags)
    deadline = time.monotonic() + 120
    while len(server.seen) < 11 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    script.slow_from = 10**6
    asked = len(server.seen)
    shown = judging_dry_run(recipe, "mt_bench", "target")
    assert "16 judgements, 9 of them cached; 7 to ask" in shown
    caplog.set_level("INFO")
    judge_responses(recipe, "mt_bench", "target")
    assert len(server.seen) == asked + 7
    first = [json.dumps(seen.body, sort_keys=True) for seen in server.seen[:9]]
    again = [json.dumps(seen.body, sort_keys=True) for seen in server.seen[asked:]]
    assert not set(first) & set(again)
    assert "asked 16 judgements, 9 of them cached" in caplog.text
    results = results_of(recipe, "mt_bench", "target")
    assert results["verdicts"] == 16 and results["cost"]["tokens"]["output"] == 5 * 7
    assert results["cost"]["tokens_with_cached"]["output"] == 5 * 16


@pytest.mark.parametrize("grade", ["1", "10", "7.3"])
def test_equal_ratings_print_their_score_and_an_interval_on_the_scale(
    grade: str,
    recipe_path: Path,
    script: LongerIsBetter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    script.grade = grade
    recipe = load_recipe(recipe_path)
    response(recipe, "mt_bench", "target")
    caplog.set_level("INFO")
    judge_responses(recipe, "mt_bench", "target")
    score = results_of(recipe, "mt_bench", "target")["tasks"]["mt_bench"]["metrics"]["score,none"]
    assert 1 <= score["low"] < score["high"] <= 10
    assert f"score {float(grade):.2f} [{score['low']:.2f}, {score['high']:.2f}]" in caplog.text


def test_another_judge_needs_another_folder_and_its_own_verdicts(
    recipe_path: Path, server: CompletionServer
) -> None:
    recipe = load_recipe(recipe_path)
    response(recipe, "mt_bench", "target")
    judge_responses(recipe, "mt_bench", "target")
    changes = ["judges.big.engine.concurrency=7", "judges.big.engine.input_price=1"]
    faster = load_recipe(recipe_path, changes)
    assert Pipeline(faster).state("judge/mt_bench/target") == "done"
    other = load_recipe(recipe_path, ["judges.big.version=2026-01"])
    assert Pipeline(other).state("judge/mt_bench/target") == "stale"
    assert Pipeline(other).state("responses/mt_bench/target") == "done"
    own = load_recipe(recipe_path, ["eval.judged.mt_bench.prompt=prompts.jsonl"])
    assert Pipeline(own).state("judge/mt_bench/target") == "stale"
    longer = load_recipe(recipe_path, ["eval.judged.mt_bench.decoding.max_tokens=99"])
    assert Pipeline(longer).state("responses/mt_bench/target") == "stale"


def test_answers_to_other_questions_are_refused(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path)
    response(recipe, "arena_hard", "target")
    folder = Pipeline(recipe).finished("responses/arena_hard/target")
    path = recipe.eval.judged["arena_hard"].questions
    assert path is not None
    changed = path.read_text().replace("Explain 3.", "Explain 4.")
    path.write_text(changed)
    with pytest.raises(StageError, match=r"questions: 'arena\.jsonl#"):
        judge_responses(recipe, "arena_hard", "target")
    with pytest.raises(DataError, match="responses to other questions"):
        JudgeBatch("arena_hard", recipe.eval, "target", folder)


def test_mistakes_end_in_messages(recipe_path: Path) -> None:
    recipe = load_recipe(recipe_path)
    with pytest.raises(RecipeError, match='no benchmark "arena" in run judged; did you'):
        judge_responses(recipe, "arena")
    with pytest.raises(RecipeError, match='no model "targte" in run judged; did you'):
        judge_responses(recipe, "arena_hard", "targte")
    with pytest.raises(MissingInputError, match="python -m eval.generate --benchmark mt_bench"):
        judge_responses(recipe, "mt_bench", "target")
    with pytest.raises(RecipeError, match='no judge "huge"; judges: big'):
        load_recipe(recipe_path, ["eval.judged.mt_bench.judge=huge"])
    with pytest.raises(RecipeError, match=r"eval\.judged.*mt_bank"):
        load_recipe(recipe_path, ["eval.judged.mt_bank={judge: big}"])
    nothing = load_recipe(recipe_path, ["eval.judged={}"])
    with pytest.raises(RecipeError, match=r"eval\.judged is empty"):
        judge_responses(nothing)


def test_the_stages_of_judging_share_processes_and_follow_the_models(recipe_path: Path) -> None:
    from wrpo.pipeline.run import _jobs

    pipeline = Pipeline(load_recipe(recipe_path))
    names = [stage.name for stage in pipeline.of_kind("responses", "judge")]
    jobs = {job.name: job for job in _jobs(pipeline, names)}
    assert list(jobs) == [
        *(f"responses/{name}" for name in ("alpaca_eval_2", "arena_hard", "mt_bench")),
        *(f"judge/{name}" for name in ("alpaca_eval_2", "arena_hard", "mt_bench")),
    ]
    assert jobs["judge/mt_bench"].command == (
        *("eval.judge", "--benchmark", "mt_bench", "--model", "all"),
    )
    assert jobs["responses/mt_bench"].inputs == {"sft", "wrpo"}

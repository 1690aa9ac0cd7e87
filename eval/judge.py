"""Judges the responses of a run's models to the benchmarks that a judge scores.

Reads   runs/RUN/responses/BENCHMARK/MODEL; question and reference files; runs/judgements.sqlite.
Writes  runs/RUN/judge/BENCHMARK/MODEL: results.json, a row per question, manifest.json; every
        judgement, as it comes, to runs/judgements.sqlite.
Run     python -m eval.judge --benchmark arena_hard --model all --recipe RECIPE
        --dry-run says how many judgements, tokens and dollars it takes, and asks nothing
Resume  the same command again asks only for judgements that are not on disk.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from eval.harness.models import ALL, add_flags, chosen
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.display.characters import visible
from wrpo.errors import ModelError, WRPOError
from wrpo.judging import Judge, JudgementCache, cache_path
from wrpo.pipeline.parts import StageWork, open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import Recipe

if TYPE_CHECKING:
    from eval.judging.batch import JudgeBatch

logger = logging.getLogger(__name__)


def main() -> None:
    """Parses the command line and judges."""
    parser = stage_parser(__doc__)
    add_flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what it takes, and stop")
    args, recipe = parse_stage(parser)
    if args.dry_run:
        sys.stdout.write(visible(judging_dry_run(recipe, args.benchmark, args.model)) + "\n")
    else:
        judge_responses(recipe, args.benchmark, args.model)


def judging_dry_run(recipe: Recipe, benchmark: str = ALL, model: str = ALL) -> str:
    """Judgements, tokens and dollars of each benchmark and model, as text."""
    pipeline = Pipeline(recipe)
    benchmarks, names = chosen(recipe, benchmark, model)
    lines = []
    with JudgementCache(cache_path(recipe.runs)) as cache:
        for chosen_benchmark in benchmarks:
            for name in names:
                stage = f"judge/{chosen_benchmark}/{name}"
                lines.append(f"{stage}: {_takes(pipeline, stage, chosen_benchmark, name, cache)}")
    return "\n".join(lines)


def judge_responses(recipe: Recipe, benchmark: str = ALL, model: str = ALL) -> None:
    """Judges what is not judged yet; the judge, the questions and the prompts are those of all.

    Raises:
        RecipeError: unknown benchmark or model, or a setting of the judge is wrong.
        MissingInputError: responses or a file are not there; names the command.
        ModelError: the judge cannot be asked; what it said so far is kept.
        DataError: a file is wrong, or no verdict can be read.
        StageError: a folder was made with other settings.
    """
    pipeline = Pipeline(recipe)
    benchmarks, names = chosen(recipe, benchmark, model)
    for chosen_benchmark in benchmarks:
        waiting = []
        for name in names:
            stage = f"judge/{chosen_benchmark}/{name}"
            if pipeline.is_done(stage):
                logger.info("%s is complete: %s", stage, _headline(pipeline, stage))
            else:
                waiting.append(name)
        with JudgementCache(cache_path(recipe.runs)) as cache:
            _judge_all(pipeline, chosen_benchmark, waiting, cache)


def _judge_all(pipeline: Pipeline, benchmark: str, names: list[str], cache: JudgementCache) -> None:
    batches = [(name, _batch(pipeline, benchmark, name)) for name in names]
    judge = _judge(pipeline.recipe, benchmark, cache)
    if batches:
        together = [request for _, batch in batches for request in batch.requests]
        logger.info("%s, %d models: %s", benchmark, len(batches), judge.estimate(together))
    for name, batch in batches:
        stage = f"judge/{benchmark}/{name}"
        with open_stage(pipeline, stage) as work:
            if not work.complete:
                _judge_one(work, batch, _judge(pipeline.recipe, benchmark, cache))
        logger.info("%s: %s", stage, _headline(pipeline, stage))


def _judge_one(work: StageWork, batch: JudgeBatch, judge: Judge) -> None:
    from eval.harness.results import write_results
    from eval.judging.batch import SAMPLES

    logger.info("%s: %s", work.name, judge.estimate(batch.requests))
    results, rows = batch.judged(judge)
    write_results(work.path, results)
    work.write_table(rows, SAMPLES)
    logger.info("%s: asked %s", work.name, judge.used)


def _batch(pipeline: Pipeline, benchmark: str, name: str) -> JudgeBatch:
    try:
        from eval.judging.batch import JudgeBatch
    except ImportError as error:
        raise ModelError(f"{error}; install it: pip install 'wrpo[eval,server]'") from error
    responses = pipeline.finished(f"responses/{benchmark}/{name}")
    return JudgeBatch(benchmark, pipeline.recipe.eval, name, responses)


def _judge(recipe: Recipe, benchmark: str, cache: JudgementCache) -> Judge:
    name = recipe.eval.judged[benchmark].judge
    return Judge(name, recipe.judges[name], cache)


def _takes(pipeline: Pipeline, stage: str, benchmark: str, name: str, cache: JudgementCache) -> str:
    if pipeline.state(stage) == "done":
        return "done"
    try:
        batch = _batch(pipeline, benchmark, name)
    except WRPOError as error:
        return str(error)
    return str(_judge(pipeline.recipe, benchmark, cache).estimate(batch.requests))


def _headline(pipeline: Pipeline, stage: str) -> str:
    """One line of the metrics, and the verdicts that could not be read."""
    from eval.harness.results import read_results

    results: dict[str, Any] = read_results(pipeline.finished(stage))
    task = next(iter(results["tasks"].values()))
    shown = ", ".join(
        f"{key.removesuffix(',none')} {metric['value']:.2f}{_interval(metric)}"
        for key, metric in task["metrics"].items()
        if metric["value"] is not None
    )
    return f"{shown} on {task['n']} questions; {results['parse_failures']} verdicts not readable"


def _interval(metric: dict[str, Any]) -> str:
    if metric["low"] is None:
        return ""
    return f" [{metric['low']:.2f}, {metric['high']:.2f}]"


if __name__ == "__main__":
    run_main(main)

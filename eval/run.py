"""Evaluates the models of a run with lm-eval.

Reads   the target and the sources of the recipe; runs/RUN/{sft,wrpo,ARM}/model.
Writes  runs/RUN/eval/MODEL: results.json, every sample as parquet parts, manifest.json.
Run     python -m eval.run --recipe RECIPE [--model NAME] [--print-command] [key=value ...]
Resume  a finished model is skipped; a model that was cut off starts again.

Without --model, all models of the run are evaluated in one process: the target as it was, the
sources, the SFT model, WRPO and every arm.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

from eval.harness.command_line import printed
from eval.harness.models import ALL, EvalModel, chosen_names, engine_arguments, resolve_models
from eval.harness.results import SAMPLES, read_results, write_results
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import ModelError
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import Recipe
from wrpo.recipe.suite import suites_of

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager


logger = logging.getLogger(__name__)


def main() -> None:
    """Parses the command line and evaluates."""
    parser = stage_parser(__doc__)
    parser.add_argument(
        "--model",
        default=ALL,
        metavar="NAME",
        help="target, a source, a fusion, sft, wrpo, an arm, a merge, or all (%(default)s)",
    )
    parser.add_argument(
        "--print-command",
        action="store_true",
        help="print the lm-eval command lines that give the same numbers, and run nothing",
    )
    args, recipe = parse_stage(parser)
    if args.print_command:
        sys.stdout.write("\n".join(print_commands(recipe, args.model)) + "\n")
    else:
        evaluate_models(recipe, args.model)


def print_commands(recipe: Recipe, name: str = ALL) -> list[str]:
    """The lm-eval command lines of one model, or of all that are trained.

    Raises:
        RecipeError: unknown model, or no benchmarks.
        MissingInputError: the model is not trained yet; names the command.
    """
    pipeline = Pipeline(recipe)
    lines: list[str] = []
    for model in resolve_models(pipeline, chosen_names(recipe, name)):
        if model.fused is not None:
            command = pipeline.shell_command(f"eval/{model.name}")
            lines.append(f"# {model.name} is no model of lm-eval: {command}")
            continue
        output = pipeline.folder(f"eval/{model.name}") / "lm-eval"
        engine = engine_arguments(recipe, model.name)
        lines += printed(model, recipe.eval, engine=engine, output=output)
    return lines


def evaluate_models(recipe: Recipe, name: str = ALL) -> None:
    """Evaluates one model of the run, or all that are not evaluated yet.

    Raises:
        RecipeError: unknown model or task, or no tasks.
        MissingInputError: a model is not trained yet; names the command.
        ModelError: lm-eval is not installed, or a model cannot be loaded.
        StageError: a folder was made with other settings.
    """
    pipeline = Pipeline(recipe)
    names = chosen_names(recipe, name)
    waiting = []
    for model in names:
        if pipeline.is_done(f"eval/{model}"):
            logger.info("eval/%s is complete: %s", model, _headline(pipeline, model))
        else:
            waiting.append(model)
    models = resolve_models(pipeline, waiting)
    if not models:
        return
    for suite in suites_of(recipe.eval):
        for benchmark, reason in suite.not_by_lm_eval().items():
            logger.warning("suite %s: %s is not run: %s", suite.suite, benchmark, reason)
    manager = _task_manager(recipe)
    for number, entry in enumerate(models, start=1):
        logger.info("eval/%s (%d of %d): %s", entry.name, number, len(models), entry.path)
        started = time.monotonic()
        _evaluate(pipeline, entry, manager)
        line = _headline(pipeline, entry.name)
        logger.info("eval/%s: %s (%.0f s)", entry.name, line, time.monotonic() - started)


def _task_manager(recipe: Recipe) -> TaskManager:
    try:
        from eval.harness.evaluate import task_manager
    except ImportError as error:
        raise ModelError(
            f"lm-eval does not import ({error}); install it: pip install 'wrpo[eval]'"
        ) from error
    return task_manager(recipe.eval)


def _evaluate(pipeline: Pipeline, model: EvalModel, manager: TaskManager) -> None:
    from eval.harness.evaluate import evaluate

    recipe = pipeline.recipe
    stage = f"eval/{model.name}"
    with open_stage(pipeline, stage) as work:
        if work.complete:
            return
        results, rows = evaluate(
            model, recipe.eval, manager=manager, engine=engine_arguments(recipe, model.name)
        )
        write_results(work.path, results)
        work.write_table(rows, SAMPLES)


def _headline(pipeline: Pipeline, name: str) -> str:
    """One line of the main metrics of each task."""
    wanted = pipeline.recipe.eval.metrics
    results = read_results(pipeline.finished(f"eval/{name}"))
    parts = []
    for task, facts in results["tasks"].items():
        values = {
            key: metric["value"]
            for key, metric in facts["metrics"].items()
            if not wanted or key.partition(",")[0] in wanted
        }
        shown = ", ".join(
            f"{key.removesuffix(',none')} {value:.3f}"
            for key, value in values.items()
            if isinstance(value, float)
        )
        parts.append(f"{task} {shown} on {facts['n']} prompts")
    return "; ".join(parts)


if __name__ == "__main__":
    run_main(main)

"""Generates the responses of a run's models to the benchmarks that a judge scores.

Reads   the target and the sources of the recipe; runs/RUN/{sft,wrpo,ARM}/model; the question file.
Writes  runs/RUN/responses/BENCHMARK/MODEL: every response as a row of parquet parts, manifest.json.
Run     python -m eval.generate --benchmark alpaca_eval_2 --model all --recipe RECIPE
        --benchmark all --model all does everything that is missing
Resume  finished parts stay; the rest is generated.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from eval.harness.models import ALL, add_flags, chosen
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import ModelError, RecipeError
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import Recipe
from wrpo.recipe.evaluation import ONLY_VLLM
from wrpo.recipe.suite import judged_decoding

if TYPE_CHECKING:
    from eval.harness.models import EvalModel
    from wrpo.benchmarks.shared.questions import Question

logger = logging.getLogger(__name__)

QUESTIONS_PER_PART = 128


def main() -> None:
    """Parses the command line and generates."""
    parser = stage_parser(__doc__)
    add_flags(parser)
    args, recipe = parse_stage(parser)
    generate_responses(recipe, args.benchmark, args.model)


def generate_responses(recipe: Recipe, benchmark: str = ALL, model: str = ALL) -> None:
    """Generates what is missing.

    Raises:
        RecipeError: unknown benchmark or model, or decoding that the backend cannot do.
        MissingInputError: a question file is not there, or a model is not trained yet.
        ModelError: lm-eval is not installed, or a model cannot be loaded.
        StageError: a folder was made with other settings.
    """
    from eval.harness.models import resolve_models

    pipeline = Pipeline(recipe)
    benchmarks, names = chosen(recipe, benchmark, model)
    for chosen_benchmark in benchmarks:
        waiting = []
        for name in names:
            if pipeline.is_done(f"responses/{chosen_benchmark}/{name}"):
                logger.info("responses/%s/%s is complete", chosen_benchmark, name)
            else:
                waiting.append(name)
        models = resolve_models(pipeline, waiting)
        if not models:
            continue
        _check_decoding(recipe, chosen_benchmark)
        questions = recipe.eval.judged[chosen_benchmark].load_questions()
        for entry in models:
            _generate(pipeline, chosen_benchmark, entry, questions)


def _check_decoding(recipe: Recipe, benchmark: str) -> None:
    decoding = judged_decoding(recipe.eval, benchmark)
    lacking = [name for name in ONLY_VLLM if decoding.get(name)]
    if lacking and not recipe.eval.runs_on_vllm:
        raise RecipeError(
            f"eval.judged.{benchmark}.decoding, or the suite's: {', '.join(lacking)} only exists "
            f"with eval.backend=vllm, not {recipe.eval.backend}; take that backend, or set it to 0"
        )


def _generate(
    pipeline: Pipeline, benchmark: str, model: EvalModel, questions: list[Question]
) -> None:
    stage = f"responses/{benchmark}/{model.name}"
    size = QUESTIONS_PER_PART
    chunks = [questions[at : at + size] for at in range(0, len(questions), size)]
    with open_stage(pipeline, stage, parts=len(chunks)) as work:
        if work.todo:
            try:
                from eval.judging.answering import response_parts
            except ImportError as error:
                raise ModelError(
                    f"lm-eval does not import ({error}); install it: pip install 'wrpo[eval]'"
                ) from error
            response_parts(pipeline.recipe, benchmark, model, work, chunks)


if __name__ == "__main__":
    run_main(main)

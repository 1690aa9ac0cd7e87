"""Which model a name of the run stands for, and how it is loaded for evaluation."""

from __future__ import annotations

import argparse
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wrpo.errors import MissingInputError, RecipeError
from wrpo.pipeline.evaluation_stages import model_names
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.evaluation import BENCHMARKS
from wrpo.recipe.fusions import FusedModels
from wrpo.recipe.resolved import fused_models, sampling_model, vllm_engine
from wrpo.recipe.suite import evaluated_tasks
from wrpo.recipe.thinking import Thinking

ALL = "all"


@dataclass(frozen=True)
class EvalModel:
    """One model to evaluate.

    Attributes:
        path: hub id or folder.
        chat_template: Jinja file used instead of the model's own.
        fold_system: put system text into the first user turn.
        thinking: whether it thinks, and the variables of its template.
        fused: the models that answer as this one.
    """

    name: str
    path: str
    revision: str | None
    chat_template: Path | None
    fold_system: bool
    quantization: str | None
    trust_remote_code: bool
    thinking: Thinking = field(default_factory=Thinking)
    fused: FusedModels | None = None


def chosen_names(recipe: Recipe, name: str) -> list[str]:
    """The models that `--model` asks for.

    Raises:
        RecipeError: no model of that name in the run, or no tasks to evaluate on.
    """
    if not evaluated_tasks(recipe.eval):
        raise RecipeError(
            "the recipe names no benchmark of lm-eval: set eval.suite (python -m eval.suites lists "
            "them) or eval.tasks, in the recipe or on the command line: eval.suite=quick"
        )
    return pick("model", name, model_names(recipe), run=recipe.run)


def pick(kind: str, name: str, known: list[str], *, run: str) -> list[str]:
    """The one of this name, or all that are known.

    Raises:
        RecipeError: none of that name; `kind` and `run` say of what, and where.
    """
    if name == ALL:
        return known
    if name not in known:
        close = difflib.get_close_matches(name, [*known, ALL], n=1)
        hint = f'; did you mean "{close[0]}"?' if close else "."
        raise RecipeError(f'no {kind} "{name}" in run {run}{hint} Known: {", ".join(known)}, {ALL}')
    return [name]


def resolve_models(pipeline: Pipeline, names: list[str]) -> list[EvalModel]:
    """The models behind the names.

    Raises:
        MissingInputError: some are not trained yet; lists the command for each.
        StageError: one was trained with other settings than the recipe now says.
    """
    models, missing = [], []
    for name in names:
        try:
            models.append(resolve_model(pipeline, name))
        except MissingInputError as error:
            missing.append(f"{name} {error}")
    if missing:
        raise MissingInputError("evaluation of " + "\nevaluation of ".join(missing))
    return models


def resolve_model(pipeline: Pipeline, name: str) -> EvalModel:
    """The recipe entry of the target or a source, or those that a fusion fuses; the trained model
    of every other name.

    Raises:
        MissingInputError: the model is not trained yet; names the command.
    """
    recipe = pipeline.recipe
    if name in (TARGET, *recipe.sources):
        return _given_model(recipe, name)
    if name in recipe.fusions:
        fused = fused_models(recipe, name)
        return EvalModel(name, name, None, None, False, None, False, fused=fused)
    return EvalModel(
        name=name,
        path=str(pipeline.finished(name) / "model"),
        revision=None,
        chat_template=None,
        fold_system=recipe.target.fold_system,
        quantization=None,
        trust_remote_code=recipe.target.trust_remote_code,
        thinking=recipe.target.thinking,
    )


def _given_model(recipe: Recipe, name: str) -> EvalModel:
    entry = sampling_model(recipe, name)
    if entry.adapter:
        raise RecipeError(
            f"evaluation loads plain weights, and {name} has adapter {entry.adapter}; merge it "
            "into the weights (peft: merge_and_unload), or leave sources out: "
            "eval.sources=false"
        )
    return EvalModel(
        name=name,
        path=entry.model,
        revision=entry.revision,
        chat_template=entry.chat_template,
        fold_system=entry.fold_system,
        quantization=entry.quantization,
        trust_remote_code=entry.trust_remote_code,
        thinking=entry.thinking,
    )


def engine_arguments(recipe: Recipe, name: str) -> dict[str, Any]:
    """Engine settings of sampling, which serve vLLM here too."""
    if not recipe.eval.runs_on_vllm or name in recipe.fusions:
        return {}
    source = name if name in recipe.sources else TARGET
    return vllm_engine(recipe, source).arguments()


def add_flags(parser: argparse.ArgumentParser) -> None:
    """`--benchmark` and `--model`."""
    parser.add_argument(
        "--benchmark",
        default=ALL,
        metavar="NAME",
        help=f"{', '.join(BENCHMARKS)}, or all of the recipe (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        default=ALL,
        metavar="NAME",
        help="target, a source, a fusion, sft, wrpo, an arm, a merge, or all (%(default)s)",
    )


def chosen(recipe: Recipe, benchmark: str, model: str) -> tuple[list[str], list[str]]:
    """Benchmarks and models that the flags ask for.

    Raises:
        RecipeError: the recipe has no such benchmark or model.
    """
    benchmarks = [str(name) for name in recipe.eval.judged]
    if not benchmarks:
        raise RecipeError(
            f"eval.judged is empty: name a benchmark ({', '.join(BENCHMARKS)}) and its judge in "
            "the recipe, eval.judged: {BENCHMARK: {judge: NAME}}, with the judge under judges "
            "(docs/judges.md)"
        )
    return (
        pick("benchmark", benchmark, benchmarks, run=recipe.run),
        pick("model", model, model_names(recipe), run=recipe.run),
    )

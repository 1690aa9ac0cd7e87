"""The stages of evaluation: by lm-eval, by judges, and the report of both."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from wrpo.benchmarks.base import BenchmarkSettings
from wrpo.benchmarks.shared.prompts import OWN
from wrpo.ids import digest
from wrpo.judging import judge_identity
from wrpo.pipeline.data_stages import answering_models
from wrpo.pipeline.stage import (
    Settings,
    Stage,
    file_digest,
    file_identity,
    model_identity,
    template_identity,
)
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.evaluation import Eval
from wrpo.recipe.resolved import sampling_model
from wrpo.recipe.suite import OWN_TASKS, evaluated_tasks, judged_decoding, own_tasks, suite_identity

_EVAL_FILES = {"include_path", "suite", "sandbox"}  # see task_settings


def evaluation_stages(recipe: Recipe) -> list[Stage]:
    """Responses and verdicts of judged benchmarks, runs of lm-eval, and the report."""
    names = model_names(recipe)
    stages = _judged(recipe, names)
    if evaluated_tasks(recipe.eval):
        tasks = cache(partial(task_settings, recipe.eval))  # the same files for all models
        stages += [_eval(recipe, name, tasks) for name in names]
    return stages + _report(stages)


def model_names(recipe: Recipe) -> list[str]:
    """Every model that evaluation compares: target, sources, fusions of them, pruned target, SFT
    model, trained arms, merges."""
    sources = [*recipe.sources, *recipe.fusions] if recipe.eval.sources else []
    pruned = ["prune"] if recipe.prune else []
    return [TARGET, *sources, *pruned, "sft", *recipe.fused_models, *recipe.arms, *recipe.merges]


def _eval(recipe: Recipe, name: str, tasks: Callable[[], Settings]) -> Stage:
    inputs = () if _is_given(recipe, name) else (name,)
    return Stage("eval", {"model": name}, inputs, partial(_eval_settings, recipe, name, tasks))


def _is_given(recipe: Recipe, name: str) -> bool:
    """Whether a model of the run is one that the recipe names, so that no stage makes it."""
    return name in (TARGET, *recipe.sources, *recipe.fusions)


def _eval_settings(recipe: Recipe, name: str, tasks: Callable[[], Settings]) -> Settings:
    settings = recipe.eval.model_dump(
        mode="json",
        exclude={"engine", "metrics", "group_by", "sources", "judged", *_EVAL_FILES},
    )
    return settings | _given_model(recipe, name) | tasks()


def _given_model(recipe: Recipe, name: str) -> Settings:
    """What identifies a model that the recipe names; nothing for one that is an input."""
    if not _is_given(recipe, name):
        return {}
    if name in recipe.fusions:
        return answering_models(recipe, name)
    entry = sampling_model(recipe, name)
    thinking = entry.thinking.settings()
    return {
        "model": model_identity(entry.model, entry.revision),
        "chat_template": template_identity(entry.chat_template),
        **({"thinking": thinking} if thinking else {}),
    }


def _judged(recipe: Recipe, names: list[str]) -> list[Stage]:
    """The responses of the named models to the judged benchmarks, then the verdicts on them."""
    benchmarks = list(recipe.eval.judged)
    stages = [_responses(recipe, benchmark, name) for benchmark in benchmarks for name in names]
    for benchmark in benchmarks:
        settings = partial(_judge_settings, recipe, benchmark)
        for name in names:
            args = {"benchmark": benchmark, "model": name}
            stages.append(Stage("judge", args, (f"responses/{benchmark}/{name}",), settings))
    return stages


def _responses(recipe: Recipe, benchmark: str, name: str) -> Stage:
    inputs = () if _is_given(recipe, name) else (name,)
    settings = partial(_response_settings, recipe, benchmark, name)
    return Stage("responses", {"benchmark": benchmark, "model": name}, inputs, settings)


def _response_settings(recipe: Recipe, benchmark: str, name: str) -> Settings:
    judged = recipe.eval.judged[benchmark]
    return {
        "seed": recipe.seed,
        "benchmark": benchmark,
        "questions": _own_or_hub(judged.questions),
        "limit": judged.limit,
        "decoding": judged_decoding(recipe.eval, benchmark),
        **recipe.eval.model_dump(mode="json", include={"backend", "dtype", "max_length"}),
        **_given_model(recipe, name),
    }


def _judge_settings(recipe: Recipe, benchmark: str) -> Settings:
    """What decides the verdicts on given responses."""
    judged = recipe.eval.judged[benchmark]
    return {
        "judge": judge_identity(judged.judge, recipe.judges[judged.judge]),
        "prompt": _prompt_identity(judged),
        **_own_fields(judged),
    }


def _own_fields(judged: BenchmarkSettings) -> Settings:
    """The fields that only this kind of benchmark has, with the content of files."""
    fields = judged.model_dump(mode="json", exclude=set(BenchmarkSettings.model_fields))
    files = fields.keys() & judged.hub_files.keys()
    return fields | {name: _own_or_hub(getattr(judged, name)) for name in files}


def _own_or_hub(path: Path | None) -> str:
    return "hub" if path is None else file_identity(path)


def _prompt_identity(judged: BenchmarkSettings) -> str:
    if judged.prompt == OWN:
        return f"own#{digest(judged.own_prompt)}"
    return file_identity(Path(judged.prompt))


def _report(stages: list[Stage]) -> list[Stage]:
    """The report of all evaluations; none where the recipe evaluates nothing."""
    inputs = tuple(stage.name for stage in stages if stage.kind in ("eval", "judge"))
    return [Stage("report", inputs=inputs)] if inputs else []


def task_settings(settings: Eval) -> Settings:
    """The part of an evaluation's key that comes from files; what is not used stays out of it.

    Raises:
        RecipeError: a suite is not there, or says something wrong.
    """
    found: Settings = {}
    if settings.include_path is not None:
        found["tasks_folder"] = _folder_identity(settings.include_path)
    if settings.suites:
        found["suite"] = suite_identity(settings)
    if own_tasks(evaluated_tasks(settings)):
        found["own_tasks"] = digest(_folder_identity(OWN_TASKS))
    if settings.sandbox != "bubblewrap":
        found["sandbox"] = settings.sandbox
    return found


def _folder_identity(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".yaml", ".py", ".jsonl"))
    return {str(file.relative_to(folder)): file_digest(file) for file in files}

"""Everything a report is made from, read from the folders of one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.harness.results import EvaluatedSample, read_results, read_samples
from wrpo.errors import DataError, MissingInputError, RecipeError
from wrpo.files import read_json
from wrpo.pipeline.evaluation_stages import model_names
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.metrics_file import LOG_HISTORY, broken_loss
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import Recipe, load_recipe
from wrpo.recipe.suite import evaluated_tasks

RECIPE = "recipe.yaml"


@dataclass(frozen=True)
class Evidence:
    """What one run has to show.

    Attributes:
        folders: the folder of every finished stage, by stage name.
        states: missing, partial, stale or done, by stage name.
        results: results.json of every evaluated model.
        samples: the samples of every evaluated model.
        histories: the training log of every trained model, as `trainer.state.log_history`.
    """

    recipe: Recipe
    pipeline: Pipeline
    folders: dict[str, Path]
    states: dict[str, str]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    samples: dict[str, list[EvaluatedSample]] = field(default_factory=dict)
    histories: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """Evaluated models, in pipeline order."""
        return list(self.samples)

    @property
    def evaluations(self) -> tuple[str, ...]:
        """The stages that the report is about; none where the recipe evaluates nothing."""
        report = self.pipeline.stages.get("report")
        return report.inputs if report else ()

    def manifests(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and manifest of every finished stage but the report."""
        for name, folder in self.folders.items():
            manifest = read_manifest(folder)
            if manifest is not None and name != "report":
                yield name, manifest

    def missing(self) -> dict[str, str]:
        """What the recipe evaluates and this run has not: state and the command that makes it.

        By the name of the model; judged benchmarks as `BENCHMARK: MODEL`.
        """
        found = {}
        for name in self.evaluations:
            if name not in self.folders:
                what = ": ".join(self.pipeline[name].args.values())
                found[what] = f"{self.states[name]}: {self.pipeline.shell_command(name)}"
        return found


def read_run(recipe: Recipe) -> Evidence:
    """The evidence of a run whose stages have the keys that the recipe says.

    Raises:
        RecipeError: the recipe has no benchmarks.
        MissingInputError: nothing is evaluated yet.
        DataError: a file is damaged.
    """
    if not evaluated_tasks(recipe.eval) and not recipe.eval.judged:
        raise RecipeError(
            "eval.suite, eval.tasks and eval.judged are empty: a report needs evaluations; name a "
            "suite"
        )
    pipeline = Pipeline(recipe)
    states = {name: str(pipeline.state(name)) for name in pipeline.stages}
    folders = {
        name: pipeline.finished(name)
        for name, state in states.items()
        if state == "done" and name != "report"
    }
    return _with_files(Evidence(recipe, pipeline, folders, states))


def read_run_folder(folder: Path) -> Evidence:
    """The evidence of a finished run by its folder; the recipe is the one stored in it.

    Keys are not compared, so that runs can be reported on where their models no longer are.

    Raises:
        MissingInputError: no recipe in the folder, or nothing evaluated.
    """
    path = folder / RECIPE
    if not path.is_file():
        raise MissingInputError(f"{folder} is not the folder of a run: it has no {RECIPE}")
    stored = load_recipe(path)
    recipe = stored.model_copy(update={"runs": folder.parent, "run": folder.name})
    pipeline = Pipeline(recipe)
    folders = {}
    for name in pipeline.stages:
        places = [folder / name]
        if recipe.reuse is not None:
            places.append(folder.parent / recipe.reuse / name)
        complete = [place for place in places if (read_manifest(place) or {}).get("complete")]
        if complete:
            folders[name] = complete[0]
    states = {name: "done" if name in folders else "missing" for name in pipeline.stages}
    return _with_files(Evidence(recipe, pipeline, folders, states))


def _with_files(evidence: Evidence) -> Evidence:
    for name in model_names(evidence.recipe):
        folder = evidence.folders.get(f"eval/{name}")
        if folder is not None:
            evidence.results[name] = read_results(folder)
            evidence.samples[name] = read_samples(folder)
    if not any(name in evidence.folders for name in evidence.evaluations):
        commands = "\n".join(f"  {line}" for line in evidence.missing().values())
        raise MissingInputError(
            f"run {evidence.recipe.run}: nothing is evaluated yet; what is missing:\n{commands}"
        )
    for name in ["sft", *evidence.recipe.fused_models, *evidence.recipe.arms]:
        folder = evidence.folders.get(name)
        if folder is not None and (folder / LOG_HISTORY).is_file():
            evidence.histories[name] = _read_history(folder / LOG_HISTORY)
    return evidence


def _read_history(path: Path) -> list[dict[str, Any]]:
    way_out = "delete the folder and train this stage again"
    history: list[dict[str, Any]] = read_json(path, list, way_out=way_out)
    if not all(isinstance(entry, dict) for entry in history):
        raise DataError(f"{path}: damaged (an entry is no object); {way_out}")
    broken = broken_loss(history)
    if broken:
        step, loss = broken
        raise DataError(
            f"{path}: the loss of step {step} is {loss}, so this model is not trained; lower "
            f"learning_rate, and {way_out}"
        )
    return history

"""Scoring by the actors of a Ray cluster: all rewards of the recipe in each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from data_construction.drop_limit import DropLimit
from data_construction.executors.job import Folders, PartMaker, PartPlace, PartsJob, Unit
from data_construction.scoring.scorer import Part, Scorer
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import SCORES, part_name
from wrpo.recipe import Recipe
from wrpo.recipe.executor import RayExecutor
from wrpo.recipe.rewards import ClassifierEngine, JudgeReward, ModelReward


class LimitedStage(Protocol):
    """The score stage of one source: its folder, and its limit on dropped answers."""

    name: str
    source: str
    folder: StageFolder
    limit: DropLimit


def score_on_ray(
    recipe: Recipe,
    executor: RayExecutor,
    stages: Sequence[LimitedStage],
    groups: Iterable[Sequence[Part]],
) -> None:
    """Scores groups of parts that share prompts; a group goes to one actor.

    Raises:
        WRPOError: see `run_on_ray`; and where too many answers are dropped.
    """
    from data_construction.executors import run_on_ray

    pipeline = Pipeline(recipe)
    inputs = {name for stage in stages for name in pipeline[stage.name].inputs}
    opponents = {r.opponent for r in recipe.rewards.values() if isinstance(r, JudgeReward)}
    limits = {stage.name: stage.limit for stage in stages}
    samples = {
        stage.name: f"sample/{stage.source}" for stage in stages if stage.source not in opponents
    }
    run_on_ray(
        PartsJob(
            name="score" if len(stages) > 1 else stages[0].name,
            recipe=recipe,
            folders={stage.name: stage.folder for stage in stages},
            units=[
                tuple(PartPlace(f"score/{part.source}", part.number) for part in group)
                for group in groups
            ],
            inputs={name: pipeline.finished(name) for name in sorted(inputs)},
            open_maker=_open,
            replicas=recipe.score.engine.replicas,
            gpus=_gpus(recipe),
            dropped_limit=lambda name, part: limits[name].add_part(part),
            same_part=samples,
        ),
        executor,
    )


def _gpus(recipe: Recipe) -> int:
    """One for all models, unless one of them is spread over several."""
    engines = [r.engine for r in recipe.rewards.values() if isinstance(r, ModelReward)]
    spread = [e.gpus_per_replica for e in engines if isinstance(e, ClassifierEngine)]
    return max([1, *spread]) if engines else 0


def _open(recipe: Recipe, inputs: Folders, outputs: Mapping[str, StageFolder]) -> PartMaker:
    scorer = Scorer(recipe, inputs=inputs)

    def make(units: Iterable[Unit]) -> None:
        for part, rows, dropped in scorer([_part(place) for place in unit] for unit in units):
            outputs[f"score/{part.source}"].write_part(part.number, rows, SCORES, dropped=dropped)

    def _part(place: PartPlace) -> Part:
        source = place.stage.removeprefix("score/")
        return Part(source, place.part, inputs[f"sample/{source}"] / part_name(place.part))

    return make

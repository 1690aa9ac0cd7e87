"""Scoring by the actors of a Ray cluster: all rewards of the recipe in each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from data_construction.executors.job import Folders, PartMaker, PartPlace, PartsJob, Unit
from data_construction.scoring.scorer import Part, Scorer
from wrpo.pipeline.folder import PartWriter
from wrpo.pipeline.parts import StageWork
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import SCORES, part_name
from wrpo.recipe import Recipe
from wrpo.recipe.executor import RayExecutor


def score_on_ray(
    pipeline: Pipeline,
    executor: RayExecutor,
    works: Mapping[str, StageWork],
    parts: Iterable[Part],
) -> None:
    """Scores parts, each by one actor.

    Args:
        works: the open score stages, by source.

    Raises:
        WRPOError: see `run_on_ray`; and where too many responses are dropped.
    """
    from data_construction.executors import run_on_ray

    recipe = pipeline.recipe
    inputs = {name for work in works.values() for name in pipeline[work.name].inputs}
    whole = {stage for reward in recipe.rewards.values() for stage in reward.extra_inputs()}
    samples = {works[source].name: f"sample/{source}" for source in works}
    own = {name: sample for name, sample in samples.items() if sample not in whole}
    run_on_ray(
        PartsJob(
            name="score" if len(works) > 1 else next(iter(works.values())).name,
            recipe=recipe,
            works={work.name: work for work in works.values()},
            units=[(PartPlace(works[part.source].name, part.number),) for part in parts],
            inputs={name: pipeline.finished(name) for name in sorted(inputs)},
            open_maker=_open,
            replicas=recipe.score.engine.replicas,
            gpus=_gpus(recipe),
            same_part=own,
        ),
        executor,
    )


def _gpus(recipe: Recipe) -> int:
    """One for all models, unless one of them is spread over several."""
    networks = [network for reward in recipe.rewards.values() for network in reward.networks()]
    return max((network.gpus for network in networks), default=0)


def _open(recipe: Recipe, inputs: Folders, outputs: Mapping[str, PartWriter]) -> PartMaker:
    scorer, pipeline = Scorer(recipe, inputs=inputs), Pipeline(recipe, given=inputs)

    def make(units: Iterable[Unit]) -> None:
        for part, rows, dropped in scorer(_part(place) for unit in units for place in unit):
            outputs[f"score/{part.source}"].write_part(part.number, rows, SCORES, dropped=dropped)

    def _part(place: PartPlace) -> Part:
        source = pipeline[place.stage].args["source"]
        return Part(source, place.part, inputs[f"sample/{source}"] / part_name(place.part))

    return make

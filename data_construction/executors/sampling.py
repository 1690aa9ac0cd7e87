"""Sampling by the actors of a Ray cluster: one engine each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from data_construction.drop_limit import DropLimit
from data_construction.executors.job import Folders, PartMaker, PartPlace, PartsJob, Unit
from data_construction.sampling.part_sampler import PartSampler
from wrpo.pipeline.folder import StageFolder
from wrpo.recipe import Recipe
from wrpo.recipe.executor import RayExecutor


def sample_on_ray(
    sampler: PartSampler, executor: RayExecutor, todo: Sequence[int], limit: DropLimit
) -> None:
    """Samples some parts of the source; the sampler here loads nothing.

    Raises:
        WRPOError: see `run_on_ray`; and where too many answers are dropped.
    """
    from data_construction.executors import run_on_ray

    engine = sampler.engine_settings
    inputs = sampler.pipeline[sampler.stage].inputs
    run_on_ray(
        PartsJob(
            name=sampler.stage,
            recipe=sampler.recipe,
            folders={sampler.stage: sampler.folder},
            units=[(PartPlace(sampler.stage, part),) for part in todo],
            inputs={name: sampler.pipeline.finished(name) for name in inputs},
            open_maker=partial(_open, source=sampler.source, limit=sampler.limit),
            replicas=engine.replicas,
            gpus=engine.gpus_per_replica,
            dropped_limit=lambda _, part: limit.add_part(part),
        ),
        executor,
    )


def _open(
    recipe: Recipe,
    inputs: Folders,
    outputs: Mapping[str, StageFolder],
    *,
    source: str,
    limit: int | None,
) -> PartMaker:
    (folder,) = outputs.values()
    sampler = PartSampler(recipe, source, limit=limit, inputs=inputs, folder=folder)

    def make(units: Iterable[Unit]) -> None:
        for _ in sampler.parts(place.part for unit in units for place in unit):
            pass

    return make

"""Sampling by the actors of a Ray cluster: one engine each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from data_construction.executors.job import Folders, PartMaker, PartPlace, PartsJob, Unit
from data_construction.sampling.part_sampler import PartSampler
from wrpo.pipeline.folder import PartWriter
from wrpo.pipeline.parts import StageWork
from wrpo.recipe import Recipe
from wrpo.recipe.executor import RayExecutor


def sample_on_ray(sampler: PartSampler, executor: RayExecutor, work: StageWork) -> None:
    """Samples what is to do of the source; the sampler here loads nothing.

    Raises:
        WRPOError: see `run_on_ray`; and where too many responses are dropped.
    """
    from data_construction.executors import run_on_ray

    engine = sampler.engine_settings
    run_on_ray(
        PartsJob(
            name=sampler.stage,
            recipe=sampler.recipe,
            works={sampler.stage: work},
            units=[(PartPlace(sampler.stage, part),) for part in work.todo],
            inputs=sampler.inputs(),
            open_maker=partial(_open, source=sampler.source, limit=sampler.limit),
            replicas=engine.replicas,
            gpus=engine.capacity.gpus,
        ),
        executor,
    )


def _open(
    recipe: Recipe,
    inputs: Folders,
    outputs: Mapping[str, PartWriter],
    *,
    source: str,
    limit: int | None,
) -> PartMaker:
    (writer,) = outputs.values()
    sampler = PartSampler(recipe, source, limit=limit, inputs=inputs)

    def make(units: Iterable[Unit]) -> None:
        for _ in sampler.parts((place.part for unit in units for place in unit), writer):
            pass

    return make

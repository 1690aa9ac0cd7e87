"""Executors make the parts of a stage: in this process, or by the actors of a Ray cluster."""

from __future__ import annotations

from data_construction.executors.job import Folders, PartMaker, PartPlace, PartsJob, Unit
from wrpo.recipe.executor import RayExecutor

__all__ = ["Folders", "PartMaker", "PartPlace", "PartsJob", "Unit", "run_on_ray"]


def run_on_ray(job: PartsJob, executor: RayExecutor) -> None:
    """Makes every unit of the job by actors of a Ray cluster.

    Raises:
        RecipeError: Ray is not installed, or no cluster answers at the recipe's address.
        StageError: a replica fits on no machine, or one part keeps killing workers.
    """
    from data_construction.executors.ray_pool import RayPool

    RayPool(job, executor).run()

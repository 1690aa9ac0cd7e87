"""Makes up prompts of a domain by exploring it with a judge.

Reads:   nothing but the recipe
Writes:  RUN/explore/DATASET (prompt, task), which the stage `prompts` reads as that dataset;
         RUNS/judgements.sqlite, so that no question is paid for twice
Run:     python -m data_construction.explore --dataset NAME --recipe recipes/llama3-8b-wrpo.yaml
Resume:  the same command again; judgements stay
"""

from __future__ import annotations

import logging

import pyarrow as pa

from data_construction.exploring.draw import coverage, draw_prompts
from data_construction.exploring.tree import Explorer
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError, RecipeError
from wrpo.judging import Judge, JudgementCache, cache_path
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.recipe import Recipe
from wrpo.recipe.prompts import explored_datasets

logger = logging.getLogger(__name__)

EXPLORED_ROWS = pa.schema([("prompt", pa.string()), ("task", pa.string())])


def explore_dataset(recipe: Recipe, name: str) -> None:
    """Runs the stage of one dataset.

    Raises:
        RecipeError: the recipe explores no such dataset.
        DataError: the judge gave no usable prompt.
        ModelError: the judge does not answer.
    """
    settings = explored_datasets(recipe.prompts).get(name)
    if settings is None:
        known = ", ".join(explored_datasets(recipe.prompts)) or "none"
        raise RecipeError(f'prompts.datasets: nothing explores "{name}"; explored are: {known}')
    with open_stage(Pipeline(recipe), f"explore/{name}") as work:
        if work.complete:
            return
        with JudgementCache(cache_path(recipe.runs)) as cache:
            judge = Judge(settings.judge, recipe.judges[settings.judge], cache)
            explorer = Explorer(settings, lambda asked: [one.answer for one in judge.ask(asked)])
            tasks = explorer.explore()
            logger.info("explore/%s: %s", name, judge.used)
        drawn = draw_prompts(tasks, settings.prompts, seed=recipe.seed)
        if not drawn:
            raise DataError(
                f"explore/{name}: {explorer.requests} requests gave no usable prompt, "
                f"{explorer.unread} replies had no JSON list; look at what judge "
                f"{settings.judge} says, or take another"
            )
        found = sum(len(task.prompts) for task in tasks)
        work.facts.update(
            tasks=len(tasks),
            found=found,
            shortfall=settings.prompts - len(drawn),
            requests=explorer.requests,
            out_of_budget=explorer.out_of_budget,
            unread_replies=explorer.unread,
            pruned_tasks=explorer.pruned,
            refused_prompts=explorer.refused,
            coverage=coverage(drawn),
        )
        rows = [{"prompt": prompt, "task": " > ".join(task.path)} for task, prompt in drawn]
        work.write_table(rows, EXPLORED_ROWS)
    if work.facts["shortfall"]:
        logger.warning(
            "explore/%s: %d prompts are missing; raise children, examples, tries or max_requests",
            *(name, work.facts["shortfall"]),
        )
    logger.info("explore/%s: %d prompts of %d tasks", name, len(drawn), len(tasks))


def main() -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--dataset", required=True, help="its name under prompts.datasets")
    args, recipe = parse_stage(parser)
    explore_dataset(recipe, args.dataset)


if __name__ == "__main__":
    run_main(main)

"""Learns which source to ask from a run whose sources all answered, for runs with more prompts.

Reads:   RUN/prompts, RUN/score/SOURCE of every source
Writes:  the file that `--out` names, for `sample.router.file` of another recipe
Run:     python -m wrpo.routing --recipe recipes/mine.yaml --out router.json
"""

from __future__ import annotations

import dataclasses
import logging
import math
from pathlib import Path

from wrpo.chat.template import Messages
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import PROMPTS, SCORES, iter_parts
from wrpo.recipe import Recipe

logger = logging.getLogger(__name__)


def learn_router(recipe: Recipe, out: Path, *, temperature: float = 1.0) -> None:
    """Learns from the run of a recipe, and says what it gains on held-out prompts.

    Raises:
        MissingInputError: a source is not scored.
        DataError: too few prompts have a score of every source.
    """
    from wrpo.routing.learn import learn

    pipeline = Pipeline(recipe)
    best: dict[str, dict[str, float]] = {}
    for name in recipe.sources:
        for rows in iter_parts(pipeline.finished(f"score/{name}"), SCORES):
            for row in rows:
                own = best.setdefault(row["prompt_id"], {})
                if math.isfinite(row["score"]):
                    own[name] = max(row["score"], own.get(name, -math.inf))
    prompts: list[Messages] = []
    scores: list[dict[str, float]] = []
    for rows in iter_parts(pipeline.finished("prompts"), PROMPTS):
        for row in rows:
            found = best.get(row["prompt_id"], {})
            if len(found) == len(recipe.sources):
                prompts.append(row["messages"])
                scores.append(found)
    router, measured = learn(prompts, scores, temperature=temperature, seed=recipe.seed)
    router.save(out, measured=dataclasses.asdict(measured), learned_from=len(prompts))
    logger.info(
        "%d held-out prompts: mean best score %.4f routed, %.4f best single source, %.4f any, %.4f "
        "best of all; gain over the best single %.4f +- %.4f, of a shuffled router %.4f",
        *(measured.prompts, measured.router, measured.best_single, measured.uniform),
        *(measured.oracle, measured.gain, 1.96 * measured.error, measured.shuffled),
    )
    logger.info("prompts by source: %s; written to %s", dict(router.shares[0]), out)
    if measured.gain <= 1.96 * measured.error:
        logger.warning("the gain over the best single source is not above its error")


def main() -> None:
    parser = stage_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="scores per nat, in standard deviations"
    )
    args, recipe = parse_stage(parser)
    learn_router(recipe, args.out, temperature=args.temperature)


if __name__ == "__main__":
    run_main(main)

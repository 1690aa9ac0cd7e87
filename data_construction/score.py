"""Scores the answers of a source, or of all sources together, with every reward of the recipe.

Reads:   RUN/prompts, RUN/sample/SOURCE
Writes:  RUN/score/SOURCE (score = weighted sum of the rewards; each reward as a head)
Run:     python -m data_construction.score --source qwen72b --recipe recipes/llama3-8b-wrpo.yaml
         --source all scores every source that the recipe names: the rewards are loaded once, and
         the answers of all sources to a prompt share its computation
         --shard 2/4 does a quarter of the parts; shards may run at once on several machines
Resume:  the same command again; finished parts stay
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from data_construction.drop_limit import DropLimit
from data_construction.executors.scoring import score_on_ray
from data_construction.scoring.scorer import Part, ScoredPart, Scorer, joint_parts
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.pipeline.folder import StageFolder
from wrpo.pipeline.parts import Shard
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import SCORES, parts, read_table
from wrpo.recipe import Recipe
from wrpo.recipe.executor import RayExecutor
from wrpo.recipe.resolved import answering_sources, check_source

logger = logging.getLogger(__name__)


class ScoreStage:
    """The stage of one source: what there is to do, and where the results go.

    Attributes:
        limit: on dropped answers, while the stage is claimed.
    """

    limit: DropLimit

    def __init__(self, recipe: Recipe, source: str) -> None:
        check_source(recipe, source)
        self._pipeline = pipeline = Pipeline(recipe)
        self.source = source
        self.name = f"score/{source}"
        self.folder = StageFolder(pipeline.folder(self.name), pipeline.key(self.name))
        self._max_dropped_share = recipe.score.max_dropped_share
        self._files = parts(pipeline.finished(f"sample/{source}"))

    def begin(self) -> bool:
        """Claims the folder; False where the stage is done."""
        return self._pipeline.begin(self.name, self.folder, parts=len(self._files))

    @contextmanager
    def claim(self, shard: Shard) -> Iterator[None]:
        """Locks a shard and counts what is dropped already.

        Raises:
            StageError: another process works on it.
            DataError: more than `score.max_dropped_share` of the answers are dropped.
        """
        with self.folder.lock(shard.lock_name):
            total = sum(read_table(file, columns=[]).num_rows for file in self._files)
            self.limit = DropLimit(self.folder, total=total, limit=self._max_dropped_share)
            yield

    def todo(self, shard: Shard) -> list[Part]:
        """The parts of a shard that are not scored yet."""
        done = self.folder.done_parts()
        numbers = [number for number in shard.of(len(self._files)) if number not in done]
        return [Part(self.source, number, self._files[number]) for number in numbers]

    def write(self, scored: ScoredPart) -> None:
        """Writes a part.

        Raises:
            DataError: more than `score.max_dropped_share` of the answers are dropped.
        """
        _, rows, dropped = scored
        self.folder.write_part(scored.part.number, rows, SCORES, dropped=dropped)
        self.limit.add(len(dropped))

    def finish(self, shard: Shard) -> None:
        """Completes the stage once all parts are there."""
        if not self.folder.finish_parts(len(self._files)):
            logger.info("%s: shard %s done, others are not", self.name, shard)


def score_sources(
    recipe: Recipe, sources: Sequence[str], shard: Shard, *, scorer: Scorer | None = None
) -> None:
    """Scores the missing parts of some sources together.

    Raises:
        MissingInputError: a source is not sampled yet.
        DataError: one source loses too many answers.
    """
    from tqdm import tqdm

    stages = [ScoreStage(recipe, source) for source in sources]
    stages = [stage for stage in stages if stage.begin()]
    with ExitStack() as locks:
        for stage in stages:
            locks.enter_context(stage.claim(shard))
        todo = [part for stage in stages for part in stage.todo(shard)]
        if todo and isinstance(recipe.executor, RayExecutor):
            score_on_ray(recipe, recipe.executor, stages, joint_parts(todo))
        else:
            by_source = {stage.source: stage for stage in stages}
            work = (scorer or Scorer(recipe))(joint_parts(todo))
            for scored in tqdm(work, total=len(todo), unit="part", desc="score"):
                by_source[scored.part.source].write(scored)
        for stage in stages:
            stage.finish(shard)


def _arguments() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    parser.add_argument("--source", required=True, help="a source's name, target, or all")
    parser.add_argument(
        "--shard", type=Shard.parse, default=Shard(1, 1), metavar="I/N", help="do parts I of N"
    )
    return parser


def main() -> None:
    args, recipe = parse_stage(_arguments())
    sources = answering_sources(recipe) if args.source == "all" else [args.source]
    score_sources(recipe, sources, args.shard)


if __name__ == "__main__":
    run_main(main)

"""Scores the responses of a source, or of all sources together, with every reward of the recipe.

Reads:   RUN/prompts, RUN/sample/SOURCE
Writes:  RUN/score/SOURCE (score = weighted sum of the rewards; each reward as a head)
Run:     python -m data_construction.score --source qwen72b --recipe recipes/llama3-8b-wrpo.yaml
         --source all scores every source that the recipe names: the rewards are loaded once
         --shard 2/4 does a quarter of the parts; shards may run at once on several machines
Resume:  the same command again; finished parts stay
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from data_construction.executors.scoring import score_on_ray
from data_construction.scoring.scorer import Part, Scorer
from data_construction.scoring.verifiers import check_verifiers, log_passed, passed, verifiers
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.pipeline.parts import DropLimit, Shard, StageWork, open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import SCORES, PromptLookup, parts, read_table
from wrpo.recipe import Recipe
from wrpo.recipe.executor import RayExecutor
from wrpo.recipe.resolved import check_source, drafting_sources


def score_sources(
    recipe: Recipe, sources: Sequence[str], shard: Shard, *, scorer: Scorer | None = None
) -> None:
    """Scores the missing parts of some sources, one part after the other.

    Raises:
        RecipeError: no source of that name.
        MissingInputError: a source is not sampled yet.
        StageError: another process works on one of them.
        DataError: one source loses more than `score.max_dropped_share` of its responses, or a
            verifier does not give 1 to the reference answer itself.
    """
    from tqdm import tqdm

    pipeline = Pipeline(recipe)
    for source in sources:
        check_source(recipe, source)
    files = {source: parts(pipeline.finished(f"sample/{source}")) for source in sources}
    with ExitStack() as opened:
        works = {
            source: opened.enter_context(_open(pipeline, source, files[source], shard))
            for source in sources
        }
        todo = [
            Part(source, number, files[source][number])
            for source, work in works.items()
            for number in work.todo
        ]
        if todo:
            check_verifiers(pipeline, f"score/{todo[0].source}")
        if todo and isinstance(recipe.executor, RayExecutor):
            busy = {source: work for source, work in works.items() if work.todo}
            score_on_ray(pipeline, recipe.executor, busy, todo)
        else:
            made = (scorer or Scorer(recipe))(todo)
            for part, rows, dropped in tqdm(made, total=len(todo), unit="part", desc="score"):
                works[part.source].write_part(part.number, rows, SCORES, dropped=dropped)
        for source, work in works.items():
            if not work.complete:
                _summarise(pipeline, work, expected=len(files[source]))


def _summarise(pipeline: Pipeline, work: StageWork, *, expected: int) -> None:
    """Says, and keeps in the manifest, how many responses the verifiers find correct."""
    made = parts(work.path)
    if len(made) == expected and verifiers(pipeline.recipe):
        prompts = PromptLookup(pipeline.finished("prompts"))
        found = passed(pipeline.recipe, prompts, made)
        log_passed(work.name, found)
        work.facts["correct"] = found


def _open(
    pipeline: Pipeline, source: str, files: Sequence[Path], shard: Shard
) -> AbstractContextManager[StageWork]:
    """The stage of one source, with one part per file of responses."""

    def responses() -> int:
        return sum(read_table(file, columns=[]).num_rows for file in files)

    # A judge's empty and cut replies are asked for again; the others come from its cache.
    again = frozenset({"judge_unparsed"})
    limit = DropLimit(pipeline.recipe.score.max_dropped_share, total=responses, again=again)
    return open_stage(pipeline, f"score/{source}", parts=len(files), shard=shard, limit=limit)


def _arguments() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__, rounds=True)
    parser.add_argument("--source", required=True, help="a source's name, target, or all")
    parser.add_argument(
        "--shard", type=Shard.parse, default=Shard(1, 1), metavar="I/N", help="do parts I of N"
    )
    return parser


def main() -> None:
    args, recipe = parse_stage(_arguments())
    sources = drafting_sources(recipe) if args.source == "all" else [args.source]
    score_sources(recipe, sources, args.shard)


if __name__ == "__main__":
    run_main(main)

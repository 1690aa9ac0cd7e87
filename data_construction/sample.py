"""Draws responses from one source model, or from the SFT target (`--source target`).

Reads:   RUN/prompts; for `--source target` also RUN/sft/model
Writes:  RUN/sample/SOURCE (one row per response: text, token ids, finish reason, seed), and how
         fast it was to RUNS/throughput.yaml, which `python -m wrpo plan` reads
Run:     python -m data_construction.sample --source qwen72b --recipe recipes/llama3-8b-wrpo.yaml
         --source all samples every source of the recipe, one after the other
         --shard 2/4 does a quarter of the parts; shards may run at once on several machines
         --limit 20 tries the first 20 prompts in a folder of their own
         --dry-run says what would be done
Resume:  the same command again; finished parts stay, seeds belong to rows
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator
from contextlib import closing

from data_construction.executors.sampling import sample_on_ray
from data_construction.sampling.dataset_responses import GivenResponses
from data_construction.sampling.part_sampler import (
    PartSampler,
    ResponseBar,
    drop_limit,
)
from data_construction.sampling.summary import log_summary, summarise_responses, warn_of_thoughts
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.display.characters import visible
from wrpo.errors import RecipeError
from wrpo.pipeline.parts import Shard, StageWork, open_stage
from wrpo.processes import end_children, leave, run_command
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.executor import RayExecutor
from wrpo.recipe.prompts import dataset_responses
from wrpo.recipe.resolved import drafting_sources


def sample(sampler: PartSampler, shard: Shard) -> None:
    """Samples the missing parts of this shard and completes the stage when all are there.

    Raises:
        DataError: more responses are dropped than the recipe allows.
    """
    sampler.model_path  # noqa: B018  a missing input is reported before anything is written
    with open_stage(
        sampler.pipeline,
        sampler.stage,
        parts=len(sampler.prompts),
        shard=shard,
        limit=drop_limit(sampler),
        trial=sampler.limit,
    ) as work:
        executor = sampler.recipe.executor
        if work.todo and isinstance(executor, RayExecutor):
            sample_on_ray(sampler, executor, work)
        elif work.todo:
            with (
                ResponseBar(sampler, work.todo) as bar,
                closing(_parts(sampler, work, shard, bar)) as made,
            ):
                for part in made:
                    work.written(part)
        if not work.complete:
            facts = summarise_responses(work.path)
            work.facts.update(facts)
            log_summary(sampler.stage, facts)
            if sampler.entry.thinking.thinks is None:
                place = TARGET if sampler.source == TARGET else f"sources.{sampler.source}"
                warn_of_thoughts(sampler.stage, work.path, field=f"{place}.thinking")


def _parts(sampler: PartSampler, work: StageWork, shard: Shard, bar: ResponseBar) -> Generator[int]:
    """In this process, or in replicas where the recipe asks for them."""
    if (sampler.engine_settings.replicas or 1) == 1:
        yield from sampler.parts(work.todo, work.writer, bar)
        return
    from data_construction.executors.processes import Replicas

    yield from Replicas(sampler, work, shard).parts(bar)


def sampling_dry_run(sampler: PartSampler) -> str:
    """What the command would do, as text."""
    stage, sampling = sampler.stage, sampler.sampling
    state = sampler.pipeline.state(stage)
    lines = [
        f"stage      {stage} ({state})",
        f"model      {sampler.entry.model if sampler.source != TARGET else 'the SFT model'}",
        f"writes     {sampler.pipeline.folder(stage, trial=sampler.limit)}",
        "sampling   " + ", ".join(f"{name}={value}" for name, value in sampling.items()),
    ]
    for domain, fields in sampler.by_domain.items():
        own = [f"{name}={value}" for name, value in fields.items() if value != sampling[name]]
        lines.append(f"           {domain}: {', '.join(own)}")
    for name in sampler.pipeline[stage].inputs:
        there = sampler.pipeline.state(name)
        make = "" if there == "done" else f"; make it: {sampler.pipeline.shell_command(name)}"
        lines.append(f"reads      {sampler.pipeline.folder(name)} ({there}{make})")
    if sampler.pipeline.state("prompts") == "done":
        each = f" x {sampling['responses']}" if not sampler.by_domain else ""
        lines.append(
            f"responses    {sampler.prompts.total} prompts{each} = {sampler.responses()}, at most "
            f"{sampler.max_tokens} tokens each"
        )
    return "\n".join(lines)


def _sample_all(args: argparse.Namespace, recipe: Recipe) -> None:
    """Each source in a process of its own, so that one engine's memory is gone before the next."""
    for source in drafting_sources(recipe):
        command = [sys.executable, "-m", "data_construction.sample", *recipe.command_line]
        command += ["--source", source, "--shard", str(args.shard)]
        command += ["--limit", str(args.limit)] if args.limit else []
        status = run_command(command)
        if status:
            sys.exit(status)


def _arguments() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__, rounds=True)
    parser.add_argument("--source", required=True, help="a source's name, target, or all")
    parser.add_argument(
        "--shard", type=Shard.parse, default=Shard(1, 1), metavar="I/N", help="do parts I of N"
    )
    parser.add_argument("--limit", type=int, metavar="PROMPTS", help="only the first prompts")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")
    return parser


def main() -> None:
    args, recipe = parse_stage(_arguments())
    if args.limit is not None and args.limit < 1:
        raise RecipeError(f"--limit must be at least 1, not {args.limit}")
    if args.source == "all" and not args.dry_run:
        _sample_all(args, recipe)
        return
    given = dataset_responses(recipe.prompts)
    if args.dry_run:
        sources = drafting_sources(recipe) if args.source == "all" else [args.source]
        texts = [
            GivenResponses(recipe, source, limit=args.limit).dry_run()
            if source in given
            else sampling_dry_run(PartSampler(recipe, source, limit=args.limit))
            for source in sources
        ]
        sys.stdout.write(visible("\n\n".join(texts)) + "\n")
        return
    if args.source in given:
        GivenResponses(recipe, args.source, limit=args.limit).run(args.shard)
        return
    sampler = PartSampler(recipe, args.source, limit=args.limit)
    sample(sampler, args.shard)
    sampler.close()
    end_children()
    leave(0)


if __name__ == "__main__":
    run_main(main)

"""Draws answers from one source model, or from the SFT target (`--source target`).

Reads:   RUN/prompts; for `--source target` also RUN/sft/model
Writes:  RUN/sample/SOURCE (one row per answer: text, token ids, finish reason, seed), and how fast
         it was to RUNS/throughput.yaml, which `python -m wrpo plan` reads
Run:     python -m data_construction.sample --source qwen72b --recipe recipes/llama3-8b-wrpo.yaml
         --source all samples every source of the recipe, one after the other
         --shard 2/4 does a quarter of the parts; shards may run at once on several machines
         --limit 20 tries the first 20 prompts in a folder of their own
         --dry-run says what would be done
Resume:  the same command again; finished parts stay, seeds belong to rows
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from data_construction.dropped import check_dropped
from data_construction.shard import Shard
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import RecipeError, TemplateError, WRPOError
from wrpo.ids import response_seed
from wrpo.pricing.estimate import measured_name
from wrpo.pricing.throughput import Measured, device, record
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.sampling_sections import Engine
from wrpo.stage_folder import StageFolder
from wrpo.stages import Pipeline, resolved_engine, resolved_sampling, sampling_model
from wrpo.tables import RESPONSES, Row, dropped_row, read_rows

if TYPE_CHECKING:
    from tqdm import tqdm
    from transformers import PreTrainedTokenizerBase

    from data_construction.engines import Completion, GenerationEngine, Refusal, Request
    from wrpo.chat import Messages

logger = logging.getLogger(__name__)


class Sampler:
    """One source's sampling stage."""

    def __init__(self, recipe: Recipe, source: str, *, limit: int | None = None) -> None:
        self.recipe = recipe
        self.source = source
        self.limit = limit
        self.pipeline = Pipeline(recipe)
        self.entry = sampling_model(recipe, source)
        self.sampling = resolved_sampling(recipe, source)
        self.stage = f"sample/{source}"
        path = self.pipeline.folder(self.stage)
        key = self.pipeline.key(self.stage)
        if limit is not None:
            path = path.with_name(f"{path.name}.limit-{limit}")
            key = {**key, "limit": limit}
        self.folder = StageFolder(path, key)

    def engine_settings(self) -> Engine:
        """The recipe's engine settings after the source's own."""
        return resolved_engine(self.recipe, self.source)

    def model_path(self) -> str:
        """Weights to sample from: the source's, or the SFT model's."""
        if self.source == TARGET:
            return str(self.pipeline.finished("sft") / "model")
        return self.entry.model

    def prompts(self) -> list[Row]:
        """The prompts this source answers; the target answers those of the preference split."""
        rows = read_rows(self.pipeline.finished("prompts"))
        if self.source == TARGET:
            rows = [row for row in rows if row["split"] == "preference"]
        return rows[: self.limit]

    def run(self, shard: Shard) -> None:
        """Samples the missing parts of this shard and completes the stage when all are there."""
        if self.engine_settings().backend == "vllm":
            from data_construction.engines.vllm_offline import prepare_environment

            prepare_environment()
        model = self.model_path()
        prompts = self.prompts()
        size = self.sampling["chunk_prompts"]
        chunks = [prompts[at : at + size] for at in range(0, len(prompts), size)]
        if self.folder.open(parts=len(chunks)):
            logger.info("%s: complete, nothing to do (%s)", self.stage, self.folder.path)
            return
        with self.folder.lock(shard.lock_name):
            done = self.folder.done_parts()
            todo = [part for part in shard.of(len(chunks)) if part not in done]
            if done:
                logger.info(
                    "%s: resuming, %d parts of %d to do", self.stage, len(todo), len(chunks)
                )
            if todo:
                _Run(self, model, chunks).parts(todo)
            if not self.folder.finish_parts(len(chunks)):
                logger.info("%s: shard %s done, others are not", self.stage, shard)


class _Run:
    """The sampling of some parts: feeds the engine, collects completions, writes full parts."""

    def __init__(self, sampler: Sampler, model: str, chunks: list[list[Row]]) -> None:
        self.sampler = sampler
        self.chunks = chunks
        self.model = model
        self.engine_settings = sampler.engine_settings()
        self.tokenizer = None if self.engine_settings.sends_messages else self._load_tokenizer()
        self.responses: int = sampler.sampling["responses"]
        self.open: dict[int, dict[tuple[int, int], Row]] = {}
        self.missing: dict[int, int] = {}
        self.dropped: dict[int, list[Row]] = {}
        self.prompts = self.prompt_tokens = self.answers = self.tokens = 0

    def parts(self, todo: list[int]) -> None:
        """Samples the given parts and writes each as soon as its last answer is there."""
        from tqdm import tqdm

        engine = self._engine()
        total = sum(len(self.chunks[part]) for part in todo) * self.responses
        started = time.monotonic()
        with tqdm(total=total, unit="answer", desc=self.sampler.stage) as bar:
            for answer in engine.generate(self._requests(todo, bar)):
                self._take(answer)
                self._show(bar, started)
        self._keep_throughput(time.monotonic() - started)
        self._check_dropped(todo)

    def _keep_throughput(self, seconds: float) -> None:
        """Tells `plan` how fast this model was here; servers run on machines of their own."""
        engine = self.engine_settings
        if engine.backend == "openai" or not self.tokens:
            return
        recipe, source = self.sampler.recipe, self.sampler.source
        row = Measured(
            model=measured_name(recipe, source),
            gpu=device(),
            gpus=engine.tensor_parallel_size * engine.pipeline_parallel_size,
            prompts=self.prompts,
            prompt_tokens=self.prompt_tokens,
            answers=self.answers,
            answer_tokens=self.tokens,
            seconds=seconds,
        )
        try:
            record(recipe.runs, row)
        except (OSError, WRPOError) as error:  # no reason to lose answers
            logger.warning("throughput is not kept: %s", error)

    def _load_tokenizer(self) -> PreTrainedTokenizerBase:
        from wrpo.chat import load_tokenizer

        entry = self.sampler.entry
        return load_tokenizer(
            self.model,
            revision=entry.revision if self.sampler.source != TARGET else None,
            chat_template=str(entry.chat_template) if entry.chat_template else None,
            trust_remote_code=entry.trust_remote_code,
        )

    def _engine(self) -> GenerationEngine:
        from data_construction.engines import load_engine
        from wrpo.chat import stop_token_ids

        sampling = self.sampler.sampling
        return load_engine(
            self.model,
            entry=self.sampler.entry,
            engine=self.engine_settings,
            sampling=sampling,
            stop_token_ids=stop_token_ids(self.tokenizer) if self.tokenizer else [],
            max_model_len=sampling["max_prompt_tokens"] + sampling["max_tokens"],
        )

    def _requests(self, todo: list[int], bar: tqdm[Any]) -> Iterator[Request]:
        from data_construction.engines import Request

        for part in todo:
            places = range(len(self.chunks[part]))
            rendered = [(place, self._render(part, place)) for place in places]
            usable = [(place, prompt) for place, prompt in rendered if prompt is not None]
            self.open[part] = {}
            self.missing[part] = len(usable) * self.responses
            bar.update((len(rendered) - len(usable)) * self.responses)
            if not usable:
                self._write(part)
            for position, (messages, ids) in usable:
                self.prompts, self.prompt_tokens = self.prompts + 1, self.prompt_tokens + len(ids)
                for index in range(self.responses):
                    seed = self._seed(self.chunks[part][position], index)
                    yield Request((part, position, index), ids, messages, seed)

    def _render(self, part: int, position: int) -> tuple[Messages, list[int]] | None:
        """One prompt as messages and, with a tokenizer, as token ids; None where it is dropped."""
        from wrpo.chat import fold_system_message, render_prompt

        row = self.chunks[part][position]
        messages: Messages = row["messages"]
        limit = self.sampler.sampling["max_prompt_tokens"]
        try:
            if self.sampler.entry.fold_system:
                messages = fold_system_message(messages)
            ids = render_prompt(self.tokenizer, messages) if self.tokenizer else []
        except TemplateError as error:
            self._drop(part, row, "template", str(error))
            return None
        if len(ids) > limit:
            self._drop(part, row, "prompt_too_long", f"{len(ids)} tokens, the limit is {limit}")
            return None
        return messages, ids

    def _drop(self, part: int, row: Row, reason: str, detail: str, *, index: int = -1) -> None:
        source = self.sampler.source
        self.dropped.setdefault(part, []).append(
            dropped_row(row["prompt_id"], reason, detail, source=source, index=index)
        )

    def _seed(self, prompt: Row, index: int) -> int:
        recipe, source = self.sampler.recipe, self.sampler.source
        return response_seed(recipe.seed, prompt["prompt_id"], source, index)

    def _take(self, answer: Completion | Refusal) -> None:
        from data_construction.engines import Completion

        part, position, index = answer.row
        prompt = self.chunks[part][position]
        if isinstance(answer, Completion):
            self.answers += 1
            self.tokens += answer.token_count or 0
            self.open[part][position, index] = self._row(prompt, index, answer)
        else:
            self._drop(part, prompt, answer.reason, answer.detail, index=index)
        self.missing[part] -= 1
        if self.missing[part] == 0:
            self._write(part)

    def _row(self, prompt: Row, index: int, completion: Completion) -> Row:
        return {
            "prompt_id": prompt["prompt_id"],
            "source": self.sampler.source,
            "index": index,
            "text": completion.text,
            "token_ids": completion.token_ids,
            "finish_reason": completion.finish_reason,
            "token_count": completion.token_count,
            "seed": self._seed(prompt, index),
            "logprob": completion.logprob,
        }

    def _write(self, part: int) -> None:
        answers = self.open.pop(part)
        rows = [answers[place] for place in sorted(answers)]
        self.sampler.folder.write_part(part, rows, RESPONSES, dropped=self.dropped.get(part))

    def _show(self, bar: tqdm[Any], started: float) -> None:
        bar.update(1)
        bar.set_postfix_str(
            f"{self.tokens / (time.monotonic() - started):,.0f} tokens/s", refresh=False
        )

    def _check_dropped(self, todo: list[int]) -> None:
        """Counts answers: a dropped prompt (index -1) is all of its answers."""
        dropped = [row for rows in self.dropped.values() for row in rows]
        lost = sum(self.responses if row["index"] < 0 else 1 for row in dropped)
        check_dropped(
            self.sampler.folder,
            dropped,
            lost=lost,
            total=sum(len(self.chunks[part]) for part in todo) * self.responses,
            limit=self.sampler.recipe.sample.max_dropped_share,
        )


def dry_run(sampler: Sampler) -> str:
    """What the command would do, as text."""
    stage, sampling = sampler.stage, sampler.sampling
    state = sampler.pipeline.state(stage)
    lines = [
        f"stage      {stage} ({state})",
        f"model      {sampler.entry.model if sampler.source != TARGET else 'the SFT model'}",
        f"writes     {sampler.folder.path}",
        "sampling   " + ", ".join(f"{name}={value}" for name, value in sampling.items()),
    ]
    for name in sampler.pipeline[stage].inputs:
        there = sampler.pipeline.state(name)
        make = "" if there == "done" else f"; make it: {sampler.pipeline.shell_command(name)}"
        lines.append(f"reads      {sampler.pipeline.folder(name)} ({there}{make})")
    if sampler.pipeline.state("prompts") == "done":
        prompts = len(sampler.prompts())
        lines.append(
            f"answers    {prompts} prompts x {sampling['responses']} = "
            f"{prompts * sampling['responses']}, at most {sampling['max_tokens']} tokens each"
        )
    return "\n".join(lines)


def _sample_all(args: argparse.Namespace, recipe: Recipe) -> None:
    """Each source in a process of its own, so that one engine's memory is gone before the next."""
    for source in recipe.sources:
        command = [sys.executable, "-m", "data_construction.sample", "--recipe", str(args.recipe)]
        command += ["--source", source, "--shard", str(args.shard)]
        command += ["--limit", str(args.limit)] if args.limit else []
        status = subprocess.run([*command, *args.overrides]).returncode
        if status:
            sys.exit(status)


def _arguments() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
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
    sources = list(recipe.sources) if args.source == "all" else [args.source]
    samplers = [Sampler(recipe, source, limit=args.limit) for source in sources]
    if args.dry_run:
        sys.stdout.write("\n\n".join(dry_run(sampler) for sampler in samplers) + "\n")
        return
    samplers[0].run(args.shard)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Collecting vLLM's objects at exit costs seconds; everything is written by now.
    os._exit(0)


if __name__ == "__main__":
    run_main(main)

"""Samples parts of one source: feeds the engine, collects responses, writes full parts.

A `PartSampler` needs nothing but the recipe and the name of the source, so that any process on any
machine can make one; who does which part is decided outside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from data_construction.sampling.kept_responses import KeptResponses
from data_construction.sampling.measured_speed import MeasuredSpeed
from data_construction.sampling.prompt_parts import PromptParts, sent_to
from data_construction.sampling.whole_response import ResponseReader
from wrpo.engines import Completion, GenerationTask, Request
from wrpo.errors import RecipeError, TemplateError
from wrpo.ids import response_seed
from wrpo.pipeline.folder import PartWriter
from wrpo.pipeline.parts import DropLimit
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import RESPONSES, Drop, PromptLookup, Row
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.resolved import (
    answered_domains,
    answering_entry,
    fused_models,
    longest_sampled,
    resolved_engine,
    resolved_sampling,
    sampling_by_domain,
)

if TYPE_CHECKING:
    from tqdm import tqdm
    from transformers import PreTrainedTokenizerBase

    from wrpo.chat.template import Messages
    from wrpo.engines import Completion, GenerationEngine, Request, Unanswered

_PROGRESS_SECONDS = 0.5

ReportProgress = Callable[[int, int], None]
"""Called now and then with the responses and the tokens since the last call."""


@dataclass
class _OpenPart:
    """A part whose prompts are with the engine."""

    prompts: list[Row]
    missing: int = 0
    seeds: dict[tuple[int, int], int] = field(default_factory=dict)
    responses: dict[tuple[int, int], Row] = field(default_factory=dict)
    dropped: list[Row] = field(default_factory=list)
    kept: KeptResponses | None = None


class PartSampler:
    """One source of one recipe. The engine is loaded once and stays for all calls of `parts`.

    Args:
        recipe: the recipe.
        source: a source's name, or `target`.
        limit: only so many prompts, in a folder of their own.
        inputs: finished folders that another process has checked, by stage name.

    Raises:
        RecipeError: no source of that name, or its settings do not fit the backend.
    """

    def __init__(
        self,
        recipe: Recipe,
        source: str,
        *,
        limit: int | None = None,
        inputs: Mapping[str, Path] | None = None,
    ) -> None:
        self.recipe = recipe
        self.source = source
        self.limit = limit
        self.pipeline = Pipeline(recipe, given=inputs)
        self.entry = answering_entry(recipe, source)
        self.sampling = resolved_sampling(recipe, source)
        self.engine_settings = resolved_engine(recipe, source)
        self.by_domain = sampling_by_domain(recipe, source)
        if self.entry.body and self.engine_settings.server is None:
            raise RecipeError(
                f"{source}: body has fields of requests to servers, and backend "
                f"{self.engine_settings.backend} sends none; leave it out, or set engine.backend"
            )
        self.stage = f"sample/{source}"
        self._open: dict[int, _OpenPart] = {}
        self._fresh = (0, 0)
        self._speed = MeasuredSpeed(recipe, source, self.engine_settings)

    @cached_property
    def prompts(self) -> PromptParts:
        """What this source answers: its domains; the target answers the preference split.

        Raises:
            MissingInputError: the prompts are not made.
        """
        return PromptParts(
            self.pipeline.finished("prompts"),
            self.sampling["chunk_prompts"],
            split="preference" if self.source == TARGET else None,
            domains=answered_domains(self.recipe, self.source),
            keep=sent_to(self.recipe, self.source),
            limit=self.limit,
        )

    def inputs(self) -> dict[str, Path]:
        """The finished stages that it reads, for makers in other processes."""
        names = self.pipeline[self.stage].inputs
        return {name: self.pipeline.finished(name) for name in names}

    def responses_per_prompt(self, domain: str) -> int:
        """Responses to each prompt of a domain."""
        return int(self.by_domain.get(domain, self.sampling)["responses"])

    def responses(self, part: int | None = None) -> int:
        """Responses of one part, or of all."""
        if not self.by_domain:
            prompts = self.prompts.total if part is None else self.prompts.size(part)
            return prompts * int(self.sampling["responses"])
        domains = self.prompts.domains(part)
        return sum(count * self.responses_per_prompt(domain) for domain, count in domains.items())

    @property
    def max_tokens(self) -> int:
        """The longest response of any domain."""
        return longest_sampled(self.recipe, self.source)[1]

    @cached_property
    def model_path(self) -> str:
        """Weights to sample from: the source's, or the SFT model's.

        Raises:
            MissingInputError: the SFT model is not trained.
        """
        if self.source == TARGET:
            return str(self.pipeline.finished("sft") / "model")
        return self.entry.model

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """None where the server renders the chat."""
        from wrpo.chat.tokenizer import load_chat_tokenizer

        if self.engine_settings.sends_messages:
            return None
        return load_chat_tokenizer(self.model_path, self.entry)

    @cached_property
    def reader(self) -> ResponseReader:
        """Divides responses into thoughts and answers."""
        return ResponseReader(self.entry.thinking, self.tokenizer)

    @cached_property
    def engine(self) -> GenerationEngine:
        """The loaded engine.

        Raises:
            RecipeError: the settings do not fit the backend.
            ModelError: the model cannot be loaded.
        """
        self.engine_settings.prepare()
        from wrpo.chat.render import stop_token_ids

        return self.engine_settings.load(
            GenerationTask(
                model=self.model_path,
                entry=self.entry,
                sampling=self.sampling,
                stop_token_ids=stop_token_ids(self.tokenizer) if self.tokenizer else [],
                max_model_len=self.sampling["max_prompt_tokens"] + self.max_tokens,
                fused=fused_models(self.recipe, self.source),
            )
        )

    def parts(
        self, todo: Iterable[int], writer: PartWriter, progress: ReportProgress | None = None
    ) -> Iterator[int]:
        """Samples parts and yields the number of each once it is written.

        A number is pulled from `todo` when the engine has room, while earlier parts are still with
        it, so `todo` must not wait for anything: when it ends, open parts are finished and `parts`
        returns. It may be called again with more.

        Args:
            todo: part numbers, at leisure.
            writer: where they go.
            progress: hears of responses and tokens about twice a second, and of all those of a part
                before it is yielded.
        """
        self._open.clear()
        self._fresh = (0, 0)
        self._writer = writer
        engine = self.engine  # loaded before the clock starts
        self._speed.start()
        reported = time.monotonic()
        for response in self._responses(engine, todo):
            written = response if isinstance(response, int) else self._take(response)
            now = time.monotonic()
            if progress and (written is not None or now - reported > _PROGRESS_SECONDS):
                progress(*self._fresh)
                reported, self._fresh = now, (0, 0)
            if written is not None:
                yield written
        self._speed.keep()

    def close(self) -> None:
        """Ends what the engine has started; the sampler is of no use afterwards."""
        if "engine" in self.__dict__:
            self.engine.close()

    def _responses(
        self, engine: GenerationEngine, todo: Iterable[int]
    ) -> Iterator[Completion | Unanswered | int]:
        """What the engine answers, and the numbers of parts that are written without it."""
        empty: list[int] = []
        for response in engine.generate(self._requests(todo, empty)):
            yield from _emptied(empty)
            yield response
        yield from _emptied(empty)

    def _requests(self, todo: Iterable[int], empty: list[int]) -> Iterator[Request]:
        for part in todo:
            opened = self._open[part] = _OpenPart(self.prompts.read(part))
            rendered = [self._render(opened, row) for row in opened.prompts]
            wanted = [self.responses_per_prompt(row["domain"]) for row in opened.prompts]
            pairs = zip(rendered, wanted, strict=True)
            opened.missing = sum(count for prompt, count in pairs if prompt is not None)
            if self.engine_settings.server is not None:
                self._take_kept(opened, part, wanted)
            self._count(sum(wanted) - opened.missing, 0)
            if not opened.missing:
                empty.append(self._write(part))
            for position, prompt in enumerate(rendered):
                if prompt is None:
                    continue
                messages, ids = prompt
                self._speed.prompt(len(ids))
                row = opened.prompts[position]
                own = self.by_domain.get(row["domain"])
                for index in range(wanted[position]):
                    if (position, index) in opened.responses:
                        continue
                    seed = opened.seeds[position, index] = self._seed(row, index)
                    yield Request((part, position, index), ids, messages, seed, own)

    def _take_kept(self, opened: _OpenPart, part: int, wanted: list[int]) -> None:
        """Responses of a server that an earlier start has paid for."""
        opened.kept = KeptResponses(self._writer.path, part)
        places = {row["prompt_id"]: place for place, row in enumerate(opened.prompts)}
        for row in opened.kept.read():
            place = places.get(row["prompt_id"])
            if place is not None and row["index"] < wanted[place]:
                opened.responses[place, row["index"]] = row
        opened.missing -= len(opened.responses)

    def _render(self, part: _OpenPart, row: Row) -> tuple[Messages, list[int]] | None:
        """One prompt as messages and, with a tokenizer, as token ids; None where it is dropped."""
        from wrpo.chat.render import fold_system_message, render_prompt

        messages: Messages = row["messages"]
        limit = self.sampling["max_prompt_tokens"]
        try:
            if self.entry.fold_system:
                messages = fold_system_message(messages)
            ids = render_prompt(self.tokenizer, messages) if self.tokenizer else []
        except TemplateError as error:
            part.dropped.append(self._dropped(row, Drop("template", str(error))))
            return None
        if len(ids) > limit:
            drop = Drop("prompt_too_long", f"{len(ids)} tokens, the limit is {limit}")
            part.dropped.append(self._dropped(row, drop))
            return None
        return messages, ids

    def _dropped(self, prompt: Row, drop: Drop, *, index: int = -1) -> Row:
        return drop.row(prompt["prompt_id"], source=self.source, index=index)

    def _seed(self, prompt: Row, index: int) -> int:
        return response_seed(self.recipe.seed, prompt["prompt_id"], self.source, index)

    def _take(self, response: Completion | Unanswered) -> int | None:
        part, position, index = response.row
        opened = self._open[part]
        prompt = opened.prompts[position]
        if isinstance(response, Completion):
            self._count(1, response.token_count or 0)
            self._speed.response(response.token_count or 0)
            seed = opened.seeds[position, index]
            row = opened.responses[position, index] = self._row(prompt, index, seed, response)
            if opened.kept:
                opened.kept.add(row)
        else:
            self._count(1, 0)
            opened.dropped.append(self._dropped(prompt, response.why, index=index))
        opened.missing -= 1
        return None if opened.missing else self._write(part)

    def _count(self, responses: int, tokens: int) -> None:
        self._fresh = (self._fresh[0] + responses, self._fresh[1] + tokens)

    def _row(self, prompt: Row, index: int, seed: int, completion: Completion) -> Row:
        whole = self.reader(completion)
        return {
            "prompt_id": prompt["prompt_id"],
            "source": self.source,
            "index": index,
            "text": whole.text,
            "token_ids": completion.token_ids,
            "finish_reason": whole.finish_reason,
            "token_count": completion.token_count,
            "seed": seed,
            "logprob": completion.logprob,
            "answer_start": whole.answer_start,
            "thought_tokens": whole.thought_tokens,
        }

    def _write(self, part: int) -> int:
        done = self._open.pop(part)
        rows = [done.responses[place] for place in sorted(done.responses)]
        self._writer.write_part(part, rows, RESPONSES, dropped=done.dropped)
        if done.kept:
            done.kept.remove()
        return part


def _emptied(found: list[int]) -> list[int]:
    taken, found[:] = list(found), []
    return taken


class ResponseBar:
    """Responses done of those to do, with tokens per second; called with (responses, tokens)."""

    def __init__(self, sampler: PartSampler, todo: Sequence[int]) -> None:
        self._total = sum(sampler.responses(part) for part in todo)
        self._stage = sampler.stage
        self._tokens = 0

    def __enter__(self) -> ResponseBar:
        from tqdm import tqdm

        self._bar: tqdm[Any] = tqdm(total=self._total, unit="response", desc=self._stage)
        self._started = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def __call__(self, responses: int, tokens: int) -> None:
        self._tokens += tokens
        speed = self._tokens / max(time.monotonic() - self._started, 1e-9)
        self._bar.set_postfix_str(f"{speed:,.0f} tokens/s", refresh=False)
        self._bar.update(responses)


def drop_limit(sampler: PartSampler) -> DropLimit:
    """The limit of a sampling stage, whose rows are responses: a dropped prompt (index -1) costs
    all of its own."""

    @cache
    def prompts() -> PromptLookup:
        return PromptLookup(sampler.pipeline.finished("prompts"))

    def cost(dropped: Row) -> int:
        if dropped["index"] >= 0:
            return 1
        return sampler.responses_per_prompt(prompts()[dropped["prompt_id"]]["domain"])

    return DropLimit(sampler.recipe.sample.max_dropped_share, total=sampler.responses, cost=cost)

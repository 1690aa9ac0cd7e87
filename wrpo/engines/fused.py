"""Several models that answer as one: they rerank whole responses, or write them word by word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from wrpo.engines.base import (
    Capacity,
    Completion,
    EngineSettings,
    GenerationTask,
    Request,
    Unanswered,
)
from wrpo.errors import RecipeError, TemplateError
from wrpo.pipeline.tables import Drop

if TYPE_CHECKING:
    from wrpo.chat.template import Messages
    from wrpo.recipe.fusions import FusedModels

_BATCHES_TOGETHER = 4


class FusedSettings(EngineSettings):
    """Several models in this process, by transformers: what the recipe's `fusions` run on."""

    backend: Literal["fused"] = Field(
        "fused", description="Several models in this process; for `fusions` only."
    )
    max_num_seqs: int = Field(16, ge=1, description="Prompts per batch.")

    @property
    def capacity(self) -> Capacity:
        """All members share one GPU."""
        return Capacity(1, self.max_num_seqs)

    @property
    def sends_messages(self) -> bool:
        """Each member has a chat template of its own."""
        return True

    def load(self, task: GenerationTask) -> FusedEngine:
        """All members in this process."""
        if task.fused is None:
            raise RecipeError(
                f"backend fused runs several models, and {task.model} is one; name them under "
                "fusions: {NAME: {members: [SOURCE, SOURCE]}}"
            )
        return FusedEngine(task, task.fused, self)


class FusedEngine:
    """Responses that the members of a fusion choose or write together.

    Raises:
        RecipeError: the fusion is by segments and sampling is not greedy, or a member thinks.
        ModelError: a member cannot be loaded.
    """

    def __init__(self, task: GenerationTask, fused: FusedModels, engine: FusedSettings) -> None:
        from wrpo.engines.fusion.member import FusionMember
        from wrpo.engines.transformers import TransformersSettings

        self._task = task
        self._fusion = fused.fusion
        self._batch_size = engine.max_num_seqs
        self._check_greedy(task.sampling)
        own = TransformersSettings(backend="transformers", max_num_seqs=engine.max_num_seqs)
        self.members = {
            name: FusionMember(name, entry, task, own) for name, entry in fused.members.items()
        }

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion | Unanswered]:
        """Yields the fused responses of some batches after the other."""
        waiting = iter(requests)
        while window := list(islice(waiting, self._batch_size * _BATCHES_TOGETHER)):
            readable = []
            for request in window:
                why = self._refusal(request.messages, request.sampling or self._task.sampling)
                if why is None:
                    readable.append(request)
                else:
                    yield Unanswered(request.row, why)
            yield from self._answered(readable)

    def close(self) -> None:
        """Nothing runs outside this process."""

    def _refusal(self, messages: Messages, sampling: dict[str, Any]) -> Drop | None:
        limit = self._task.max_model_len - sampling["max_tokens"]
        for member in self.members.values():
            try:
                length = len(member.prompt_ids(messages))
            except TemplateError as error:
                return Drop("template", f"{member.name}: {error}")
            if length > limit:
                detail = f"{member.name}: {length} tokens, the limit is {limit}"
                return Drop("prompt_too_long", detail)
        return None

    def _answered(self, requests: Sequence[Request]) -> Iterator[Completion]:
        candidates: list[list[Completion]] = [[] for _ in requests]
        if self._fusion.method in ("segments", "both"):
            for found, request in zip(candidates, requests, strict=True):
                found.append(self._written_together(request))
        if self._fusion.method in ("rerank", "both") and requests:
            for member in self.members.values():
                for found, one in zip(candidates, member.responses(requests), strict=True):
                    found.append(one)
        for request, found in zip(requests, candidates, strict=True):
            yield self._best(request, found)

    def _best(self, request: Request, found: Sequence[Completion]) -> Completion:
        """The response that all members together find likeliest."""
        from wrpo.engines.fusion.rule import likeliest, mean_surprise, text_bytes

        found = sorted(found, key=_shortest_first, reverse=True)
        distinct = dict(sorted({_name(one): one for one in found}.items()))
        texts = [one.text for one in distinct.values()]
        ends = [one.finish_reason == "stop" for one in distinct.values()]
        if len(distinct) > 1:
            by_member = [m.surprises(request.messages, texts, ends) for m in self.members.values()]
            scores = {
                name: mean_surprise(
                    [said[place] for said in by_member],
                    bytes_=text_bytes(texts[place], finished=ends[place]),
                    aggregate=self._fusion.aggregate,
                    unit=self._fusion.unit,
                )
                for place, name in enumerate(distinct)
            }
            best = distinct[likeliest(scores)]
        else:
            best = next(iter(distinct.values()))
        return Completion(request.row, best.text, None, best.token_count, best.finish_reason, None)

    def _written_together(self, request: Request) -> Completion:
        from wrpo.engines.fusion.segments import write_together

        sampling = request.sampling or self._task.sampling
        self._check_greedy(sampling)
        made = write_together(
            self.members, request.messages, self._fusion, max_tokens=sampling["max_tokens"]
        )
        reason = "stop" if made.finished else "length"
        return Completion(request.row, made.text, None, made.tokens, reason, None)

    def _check_greedy(self, sampling: dict[str, Any]) -> None:
        if self._fusion.method == "rerank" or sampling["temperature"] == 0:
            return
        raise RecipeError(
            f"a fusion by segments is greedy, and temperature is {sampling['temperature']}; set "
            "temperature: 0 and responses: 1 under the fusion's sampling (fusions.NAME.sampling), "
            "or method: rerank"
        )


def _name(completion: Completion) -> str:
    """The text, and whether it ends: a response that was cut is another one."""
    return completion.text + ("" if completion.finish_reason == "stop" else chr(0))


def _shortest_first(completion: Completion) -> int:
    return completion.token_count or 0

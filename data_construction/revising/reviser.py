"""The model that revises: a source, or an arm trained on revisions; it is loaded when needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from data_construction.sampling.whole_response import ResponseReader
from data_construction.selection.revisions import revision_question
from wrpo.engines import Completion, GenerationTask, Request
from wrpo.errors import TemplateError
from wrpo.ids import response_seed
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import Drop, Row, answer_of
from wrpo.recipe import TARGET
from wrpo.recipe.resolved import answering_entry, resolved_engine, resolved_sampling
from wrpo.recipe.revise import REVISED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from wrpo.engines import GenerationEngine


class Reviser:
    """Asks for revisions of drafts.

    Args:
        source: whose responses are the drafts.

    Raises:
        MissingInputError: the arm that revises is not trained.
    """

    def __init__(self, pipeline: Pipeline, source: str) -> None:
        self._recipe = pipeline.recipe
        self._name = f"{REVISED}{source}"
        self._revision = self._recipe.revise[source]
        self._entry = answering_entry(self._recipe, self._name)
        self._sampling = {**resolved_sampling(self._recipe, self._name), "responses": 1}
        trained = self._revision.by not in self._recipe.sources
        self._of = TARGET if trained else self._revision.by
        self._path = (
            str(pipeline.finished(self._revision.by) / "model") if trained else self._entry.model
        )
        self._settings = resolved_engine(self._recipe, self._of)

    def __call__(
        self, drafts: Sequence[Row], prompts: Sequence[Row]
    ) -> list[tuple[str, Completion] | Drop]:
        """The answer to each draft, with what the engine says of it; in the order of the drafts."""
        found: list[tuple[str, Completion] | Drop] = [Drop("revision_unread", "no reply")] * len(
            drafts
        )
        requests = []
        for place, (draft, prompt) in enumerate(zip(drafts, prompts, strict=True)):
            request = self._request(place, draft, prompt)
            if isinstance(request, Drop):
                found[place] = request
            else:
                requests.append(request)
        for reply in self._engine.generate(requests):
            if isinstance(reply, Completion):
                whole = self._reader(reply)
                found[reply.row[1]] = whole.text[whole.answer_start or 0 :], reply
            else:
                detail = f"{reply.why.reason}: {reply.why.detail}"
                found[reply.row[1]] = Drop("revision_unread", detail)
        return found

    def close(self) -> None:
        """Ends what the engine has started."""
        if "_engine" in self.__dict__:
            self._engine.close()

    def _request(self, place: int, draft: Row, prompt: Row) -> Request | Drop:
        from wrpo.chat.render import render_prompt

        template = self._revision.template
        messages = revision_question(template, prompt["messages"], answer_of(draft))
        ids: list[int] = []
        try:
            if self._tokenizer is not None:
                ids = render_prompt(self._tokenizer, messages)
        except TemplateError as error:
            return Drop("revision_unread", str(error))
        if len(ids) > self._longest_prompt:
            return Drop(
                "revision_unread", f"{len(ids)} tokens, the limit is {self._longest_prompt}"
            )
        seed = response_seed(self._recipe.seed, draft["prompt_id"], self._name, draft["index"])
        return Request((0, place, 0), ids, messages, seed)

    @property
    def _longest_prompt(self) -> int:
        """A draft is as long as a response, and stands in the prompt."""
        sampling: dict[str, Any] = self._sampling
        return int(sampling["max_prompt_tokens"] + sampling["max_tokens"])

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase | None:
        from wrpo.chat.tokenizer import load_chat_tokenizer

        if self._settings.sends_messages:
            return None
        return load_chat_tokenizer(self._path, self._entry)

    @cached_property
    def _reader(self) -> ResponseReader:
        return ResponseReader(self._entry.thinking, self._tokenizer)

    @cached_property
    def _engine(self) -> GenerationEngine:
        self._settings.prepare()
        from wrpo.chat.render import stop_token_ids

        return self._settings.load(
            GenerationTask(
                model=self._path,
                entry=self._entry,
                sampling=self._sampling,
                stop_token_ids=stop_token_ids(self._tokenizer) if self._tokenizer else [],
                max_model_len=self._longest_prompt + int(self._sampling["max_tokens"]),
            )
        )

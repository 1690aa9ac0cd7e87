"""A response as it is kept: whole, with the place where its answer begins."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from wrpo.chat.thoughts import answer_start, with_thought
from wrpo.engines import Completion
from wrpo.pipeline.tables import UNCLOSED
from wrpo.recipe.thinking import Thinking

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class WholeResponse(NamedTuple):
    """Columns of `RESPONSES`."""

    text: str
    finish_reason: str
    answer_start: int | None
    thought_tokens: int | None


class ResponseReader:
    """Makes whole responses of one model's completions.

    Args:
        thinking: what the recipe says of the model.
        tokenizer: the model's, with the template that makes the prompts; None where the server
            renders them: then a model thinks if the recipe says so, or the server gives the thought
            apart.

    Raises:
        TemplateError: the tokenizer has no chat template.
    """

    def __init__(self, thinking: Thinking, tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._thinking = thinking
        self._tokenizer = tokenizer
        self.style = thinking.style(tokenizer)

    def __call__(self, completion: Completion) -> WholeResponse:
        """The response with the tags that the prompt, or the server, took from it."""
        text = self._text(completion)
        start = answer_start(text, self._thinking.tags) if self._has_thoughts(completion) else None
        reason = completion.finish_reason
        if start == len(text) and not text.rstrip().endswith(self._thinking.tags[1]):
            reason = UNCLOSED if reason == "stop" else reason
        return WholeResponse(text, reason, start, self._thought_tokens(completion, text, start))

    def _has_thoughts(self, completion: Completion) -> bool:
        apart = completion.thought is not None and self._thinking.thinks is not False
        return apart or self.style is not None

    def _text(self, completion: Completion) -> str:
        opening, closing = self._thinking.tags
        if completion.thought is not None and self._thinking.thinks is not False:
            thought = completion.thought.strip()
            if not completion.text.strip():  # it ended in its thought
                return f"{opening}\n{thought}"
            return with_thought(thought, completion.text.lstrip(), (opening, closing))
        if self.style is None:
            return completion.text
        return self.style.opened + self._with_control_tags(completion)

    def _with_control_tags(self, completion: Completion) -> str:
        """The text; where a tag is a control token, which decoding leaves out, by the token ids."""
        from wrpo.chat.tokens import added_tokens

        if self._tokenizer is None or completion.token_ids is None:
            return completion.text
        added = added_tokens(self._tokenizer)
        ids = {added.ids[tag]: tag for tag in self._thinking.tags if tag in added.ids}
        if not ids.keys() & added.special_ids:
            return completion.text
        return "".join(
            ids[piece[0]] if piece[0] in ids else self._decoded(piece)
            for piece in _pieces(completion.token_ids, ids.keys())
        )

    def _decoded(self, ids: Sequence[int]) -> str:
        assert self._tokenizer is not None
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _thought_tokens(self, completion: Completion, text: str, start: int | None) -> int | None:
        """Tokens of the thought; a share of all, by letters, where nothing else is known."""
        count = completion.token_count
        if not start:
            return None
        if completion.thought_tokens is not None:
            return completion.thought_tokens
        if self._tokenizer is not None:
            known = len(self._tokenizer.encode(text[:start], add_special_tokens=False))
            return known if count is None else min(count, known)
        return None if count is None else round(count * start / len(text))


def _pieces(ids: Sequence[int], alone: Collection[int]) -> list[list[int]]:
    """The ids in runs; those of `alone` are runs of their own."""
    runs: list[list[int]] = []
    for index in ids:
        if runs and index not in alone and runs[-1][0] not in alone:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs

"""One model of a fusion: its chat, its tokens, and what it says of texts. A heavy import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from wrpo.chat.render import (
    end_of_turn_ids,
    fold_system_message,
    render_prompt,
    render_responses,
    stop_token_ids,
)
from wrpo.chat.tokenizer import load_chat_tokenizer
from wrpo.chat.tokens import encode, guard
from wrpo.engines.base import GenerationTask, Request
from wrpo.engines.fusion.rule import Surprise
from wrpo.engines.transformers import TransformersEngine, TransformersSettings
from wrpo.errors import RecipeError

if TYPE_CHECKING:
    from wrpo.chat.template import Messages
    from wrpo.engines.base import Completion
    from wrpo.recipe.sampling import Model


class FusionMember:
    """A model that answers alone, and reads what others answer, each in its own chat template.

    Raises:
        RecipeError: it writes thoughts, which only it can read.
        ModelError: it cannot be loaded.
        TemplateError: it has no chat template.
    """

    def __init__(
        self, name: str, entry: Model, task: GenerationTask, engine: TransformersSettings
    ) -> None:
        self.name = name
        self.entry = entry
        self.tokenizer = load_chat_tokenizer(entry.model, entry)
        if entry.thinking.style(self.tokenizer) is not None:
            raise RecipeError(
                f"{name} thinks before it answers, and fused models share one text that has no "
                f"thoughts; set sources.{name}.thinking to off (and, where the template has the "
                "switch, chat_template_kwargs: {enable_thinking: false}), or leave it out"
            )
        self.stops = stop_token_ids(self.tokenizer)
        self.end_of_turn = end_of_turn_ids(self.tokenizer)[0]
        self._engine = TransformersEngine(
            GenerationTask(
                model=entry.model,
                entry=entry,
                sampling=task.sampling,
                stop_token_ids=self.stops,
                max_model_len=task.max_model_len,
            ),
            engine,
        )
        self.model = self._engine.model

    def folded(self, messages: Messages) -> Messages:
        """The messages as its template takes them."""
        return fold_system_message(messages) if self.entry.fold_system else messages

    def prompt_ids(self, messages: Messages) -> list[int]:
        """Its token ids of a conversation, up to where the response begins.

        Raises:
            TemplateError: its template cannot render the conversation.
        """
        return render_prompt(self.tokenizer, self.folded(messages))

    def text_ids(self, text: str) -> list[int]:
        """Its token ids of a text that follows another; control tokens in it are letters."""
        return encode(self.tokenizer, guard(self.tokenizer, text, "A fused text"), continues=True)

    def responses(self, requests: Sequence[Request]) -> list[Completion]:
        """Its own responses, in the order of the requests."""
        own = [
            Request(
                row=(0, 0, place),
                prompt_ids=self.prompt_ids(request.messages),
                messages=request.messages,
                seed=request.seed,
                sampling=request.sampling,
            )
            for place, request in enumerate(requests)
        ]
        return sorted(self._engine.generate(own), key=lambda completion: completion.row)

    def surprises(
        self, messages: Messages, texts: Sequence[str], finished: Sequence[bool]
    ) -> list[Surprise]:
        """What it says of whole responses to a conversation.

        Args:
            finished: whether each ends; those that do are read with this model's end of turn.

        Raises:
            TemplateError: its template cannot render the conversation.
        """
        prompt, responses = render_responses(
            self.tokenizer,
            self.folded(messages),
            texts,
            unfinished=[place for place, ends in enumerate(finished) if not ends],
        )
        found = []
        for start in range(0, len(responses), self._engine.batch_size):
            batch = responses[start : start + self._engine.batch_size]
            nlls = self._negative_logps(prompt, batch)
            found += [Surprise(nll, len(ids)) for nll, ids in zip(nlls, batch, strict=True)]
        return found

    @torch.inference_mode()
    def _negative_logps(self, prompt: list[int], responses: list[list[int]]) -> list[float]:
        """Summed over each response, in nats; responses are padded on the right."""
        longest = max(map(len, responses))
        rows = [prompt + ids + [prompt[-1]] * (longest - len(ids)) for ids in responses]
        mask = [[1] * (len(prompt) + len(ids)) + [0] * (longest - len(ids)) for ids in responses]
        device = self.model.device
        ids = torch.tensor(rows, device=device)
        logits = self.model(
            input_ids=ids,
            attention_mask=torch.tensor(mask, device=device),
            use_cache=False,
            logits_to_keep=longest + 1,
        ).logits[:, :-1]
        wanted = ids[:, len(prompt) :]
        logps = logits.float().log_softmax(-1).gather(-1, wanted[..., None])[..., 0].double()
        lengths = torch.tensor([len(ids) for ids in responses], device=device)
        there = torch.arange(longest, device=device) < lengths[:, None]
        sums: list[float] = (-logps.where(there, 0.0).sum(-1)).tolist()
        return sums

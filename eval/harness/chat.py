"""Gives lm-eval's model classes the same prompt ids that training and sampling used.

lm-eval renders a chat to text and encodes the text again. That encoding may add a second BOS, an
EOS at the end, or read user text as control tokens. Here the ids come from `wrpo.chat.render`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wrpo.chat.render import fold_system_message, render_prompt
from wrpo.chat.template import TODAY
from wrpo.chat.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def own_tokenizer(
    pretrained: str, chat_template: str | None, model_args: dict[str, Any]
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model that the `lm-eval` command line names.

    Raises:
        TemplateError: it has no chat template.
    """
    return load_tokenizer(
        pretrained,
        revision=model_args.get("revision"),
        chat_template=chat_template,
        trust_remote_code=bool(model_args.get("trust_remote_code", False)),
    )


class ChatPrompts:
    """Renders conversations of one tokenizer; knows the ids and the question of each text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, fold_system: bool) -> None:
        self.tokenizer = tokenizer
        self.fold_system = fold_system
        self._ids: dict[str, list[int]] = {}
        self._questions: dict[str, str] = {}

    def render(self, chat: list[dict[str, str]], *, generation_prompt: bool) -> str:
        """The prompt as text, with BOS where the ids have one.

        Args:
            generation_prompt: False when the last turn is the begun response of the assistant.

        Raises:
            TemplateError: the template cannot render the conversation.
        """
        turns = chat if generation_prompt else chat[:-1]
        ids = render_prompt(self.tokenizer, turns, fold_system=self.fold_system)
        rendered = self._text(chat, generation_prompt=generation_prompt)
        text = self._with_bos(rendered, ids)
        if generation_prompt:
            self._ids[text] = ids
        elif text != rendered:
            # A first word has other tokens at the start of a text than behind a written BOS.
            self._ids[text] = [ids[0], *self.tokenizer.encode(rendered, add_special_tokens=False)]
        self._questions[text] = turns[-1]["content"]
        return text

    def encode(self, text: str) -> list[int]:
        """Ids of a rendered text; nothing is added to what the text says."""
        if text in self._ids:
            return self._ids[text]
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def question(self, text: str) -> str:
        """The last user turn of a rendered text; the text itself where it is not a chat."""
        return self._questions.get(text, text)

    def _text(self, chat: list[dict[str, str]], *, generation_prompt: bool) -> str:
        messages = fold_system_message(chat) if self.fold_system else chat
        return str(
            self.tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=generation_prompt,
                continue_final_message=not generation_prompt,
                strftime_now=TODAY.strftime,
            )
        )

    def _with_bos(self, text: str, ids: list[int]) -> str:
        bos = self.tokenizer.bos_token
        if bos and ids[:1] == [self.tokenizer.bos_token_id] and not text.startswith(bos):
            return bos + text
        return text

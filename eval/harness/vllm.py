"""lm-eval's vLLM model, with prompt ids and stop ids from `wrpo.chat.render`."""

from __future__ import annotations

from typing import Any

from lm_eval.models.vllm_causallms import VLLM
from transformers import PreTrainedTokenizerBase

from eval.harness.chat import ChatPrompts, own_tokenizer
from eval.harness.thinking import AnswersOnly, thinking_style
from wrpo.chat.render import stop_token_ids
from wrpo.recipe.thinking import Thinking


class ChatVLLM(AnswersOnly, VLLM):
    """VLLM that generates from chat ids.

    Args:
        tokenizer: the loaded tokenizer, with the chat template to use; without it, the model's.
        chat_template: Jinja file for a tokenizer that is not given.
        fold_system: put system text into the first user turn.
        thinking: whether the model thinks; by itself, as its chat template says.
    """

    def __init__(
        self,
        pretrained: str,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        chat_template: str | None = None,
        fold_system: bool = False,
        thinking: Thinking | None = None,
        **kwargs: Any,
    ) -> None:
        if tokenizer is None:
            tokenizer = own_tokenizer(pretrained, chat_template, kwargs)
        super().__init__(pretrained, add_bos_token=False, **kwargs)
        self.tokenizer = tokenizer
        self.prompts = ChatPrompts(tokenizer, fold_system=fold_system)
        self.style = thinking_style(self.tokenizer, thinking or Thinking())
        self._stop_token_ids = stop_token_ids(tokenizer)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The prompt as text."""
        return self.prompts.render(chat_history, generation_prompt=add_generation_prompt)

    def tok_encode(
        self, string: str | list[str], add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int] | list[list[int]]:
        """Ids; the list form is what generation asks for."""
        if isinstance(string, str):
            return list(self.tokenizer.encode(string, add_special_tokens=False)) if string else []
        return [self.prompts.encode(text) for text in string]

    def modify_gen_kwargs(
        self, gen_kwargs: dict[str, Any], **kwargs: Any
    ) -> tuple[dict[str, Any], list[str], int]:
        """Sampling parameters of a request, with the ids that end a turn.

        Special tokens in a response are left out of its text, as lm-eval's transformers model does.
        """
        given = {"skip_special_tokens": True, **gen_kwargs}
        parameters, until, max_tokens = VLLM.modify_gen_kwargs(given, **kwargs)
        parameters["stop_token_ids"] = self._stop_token_ids
        return parameters, until, max_tokens

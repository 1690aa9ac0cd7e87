"""lm-eval's transformers model, with prompt ids and stop ids from `wrpo.chat.render`."""

from __future__ import annotations

from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import GenerationConfig, PreTrainedTokenizerBase

from eval.harness.chat import ChatPrompts, own_tokenizer
from eval.harness.thinking import AnswersOnly, thinking_style
from wrpo.chat.render import stop_token_ids
from wrpo.prefix.left_out import complete_attention
from wrpo.recipe.thinking import Thinking


class ChatHFLM(AnswersOnly, HFLM):
    """HFLM that generates from chat ids and takes nothing from generation_config.json.

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
        super().__init__(pretrained, tokenizer=tokenizer, add_bos_token=False, **kwargs)
        complete_attention(self.model)
        self.prompts = ChatPrompts(self.tokenizer, fold_system=fold_system)
        self.style = thinking_style(self.tokenizer, thinking or Thinking())
        self.model.generation_config = GenerationConfig(
            bos_token_id=self.tokenizer.bos_token_id,
            eos_token_id=stop_token_ids(self.tokenizer),
            pad_token_id=self.tokenizer.pad_token_id,
        )

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The prompt as text."""
        return self.prompts.render(chat_history, generation_prompt=add_generation_prompt)

    def tok_batch_encode(
        self,
        strings: list[str],
        padding_side: str = "left",
        left_truncate_len: int | None = None,
        truncation: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Padded ids and attention mask of a batch, both (batch, longest prompt)."""
        rows = [self.prompts.encode(text)[-(left_truncate_len or 0) :] for text in strings]
        batch = self.tokenizer.pad(
            {"input_ids": rows}, padding_side=padding_side, return_tensors="pt"
        )
        return batch["input_ids"], batch["attention_mask"]

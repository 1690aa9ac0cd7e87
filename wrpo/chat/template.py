"""The chat template of a tokenizer: its text, its identity, and what it writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from wrpo.chat.limits import BYTES, SECONDS, TooMuch, limited
from wrpo.chat.tokens import adds_bos, unguard
from wrpo.errors import ModelError, TemplateError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = Sequence[Mapping[str, str]]
Chat = list[dict[str, str]]

# The date in Llama-3.1's own template, which Llama-3.2 uses where it cannot ask for today's.
TODAY = datetime(2024, 7, 26)

# A template may write that much around a conversation, and each message so many times.
_LONGEST_FRAME = 1_000_000
_REPEATS = 20


def template_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """16 hex digits that change when the same chat could be rendered differently.

    Covers the template text, the special tokens it may insert (padding is not one of them) and
    whether a BOS is added. The same on every machine and in every process.

    Raises:
        TemplateError: The tokenizer has no chat template.
    """
    tokens = {k: v for k, v in tokenizer.special_tokens_map.items() if k != "pad_token"}
    identity = {
        "template": template_of(tokenizer),
        "special_tokens": tokens,
        "adds_bos": adds_bos(tokenizer),
    }
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def render(
    tokenizer: PreTrainedTokenizerBase, chat: Chat, *, generation_prompt: bool = False
) -> str:
    """The conversation as the template writes it, on the day `TODAY`.

    Raises:
        TemplateError: No template, or it refuses these turns.
        ModelError: It does not come to an end, or writes without measure.
    """
    template = template_of(tokenizer)
    try:
        with limited():
            text = tokenizer.apply_chat_template(
                chat,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=generation_prompt,
                strftime_now=TODAY.strftime,
            )
    except (TooMuch, MemoryError):
        limit = f"{SECONDS:.0f} seconds and {BYTES >> 30} GiB"
        raise _endless(tokenizer, f"does not come to an end within {limit}") from None
    except Exception as error:  # a template is foreign code and may fail in any way
        roles = [message["role"] for message in chat]
        way_out = (
            "If it is the system role, set fold_system: true to put the system text into the "
            "first user turn."
            if "system" in roles
            else "Drop the row or change its turns."
        )
        raise TemplateError(
            f"The chat template refuses turns {roles}: {error or type(error).__name__}. {way_out}"
        ) from error
    given = sum(len(message["content"]) for message in chat)
    if len(text) > _LONGEST_FRAME + _REPEATS * given:
        raise _endless(tokenizer, f"writes {len(text):,} characters for {given:,}")
    return str(text)


def _endless(tokenizer: PreTrainedTokenizerBase, what: str) -> ModelError:
    return ModelError(
        f"The chat template of {tokenizer.name_or_path or 'this model'} {what}. Set chat_template "
        "to another one"
    )


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of the template.

    Raises:
        TemplateError: The tokenizer has none.
    """
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:
        raise TemplateError(
            f"The tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template. Use "
            "an instruction-tuned model or set chat_template."
        ) from error


def excerpt(value: object, limit: int = 80) -> str:
    """The value for an error message, at most `limit` characters of it, without marks."""
    text = unguard(value) if isinstance(value, str) else str(value)
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")

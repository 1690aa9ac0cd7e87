"""Rendered chat text to token ids: the half of ``wrpo.chat.render`` that knows tokenizers.

A rendered chat mixes control tokens, which the template wrote, with the text of messages, which
may spell the same tokens (``<|im_end|>`` in a question about chat formats). ``guard`` marks such
letters before the template sees them, ``encode`` gives the marked ones the ids of plain text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wrpo.errors import TemplateError

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerBase

# Unicode noncharacters: reserved for use inside a program, never part of exchanged text.
END_OF_ANSWER = "\ufdd0"  # after the last letter of a response, to find it in a rendered chat
_LETTERS = "\ufdd1"  # between the letters of a special token that a message spells
_ALIAS = "\ufdd2"  # around the id of a special token that the template wrote
_RESERVED = re.compile("[\ufdd0-\ufdd2]")


@dataclass(frozen=True)
class AddedTokens:
    """Tokens that are matched in text before any merging.

    Attributes:
        ids: Id of each, by its text.
        special_ids: Ids of the control tokens among them.
        special: Matches the text of a control token.
        visible: Matches any of them, control token or not, that is more than whitespace.
    """

    ids: Mapping[str, int]
    special_ids: frozenset[int]
    special: re.Pattern[str]
    visible: re.Pattern[str]


def added_tokens(tokenizer: PreTrainedTokenizerBase) -> AddedTokens:
    """The added tokens of a tokenizer as it is now."""
    return _read_added_tokens(tokenizer, *_cache_key(tokenizer))


def guard(tokenizer: PreTrainedTokenizerBase, text: str, where: str) -> str:
    """Mark the control tokens that the text of a message spells.

    Args:
        where: What the text is, for the error message.

    Raises:
        TemplateError: The text is not valid Unicode or has one of the characters used as marks.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TemplateError(f"{where} is not valid Unicode ({error}). Drop the row.") from error
    if found := _RESERVED.search(text):
        raise TemplateError(f"{where} has the noncharacter U+{ord(found[0]):04X}. Drop the row.")
    return added_tokens(tokenizer).special.sub(lambda match: _LETTERS.join(match[0]), text)


def unguard(text: str) -> str:
    """The text without the marks of ``guard``."""
    return text.replace(_LETTERS, "")


def encode_chat(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a rendered chat from its start, with one BOS if the family has one, else none.

    Raises:
        TemplateError: The template wrote the BOS twice, or as ``encode``.
    """
    ids = encode(tokenizer, text)
    bos = tokenizer.bos_token_id
    if bos is None:
        return ids
    if ids[:1] != [bos]:
        return [bos, *ids] if adds_bos(tokenizer) else ids
    if ids[1:2] == [bos]:
        raise TemplateError(
            f"The chat template writes {tokenizer.bos_token!r} twice at the start. Set "
            "chat_template to one that writes it once."
        )
    return ids


def adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer puts a BOS before plain text by default."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer.encode("")[:1] == [bos]


def encode(tokenizer: PreTrainedTokenizerBase, text: str, *, continues: bool = False) -> list[int]:
    """Ids of rendered text, nothing added; what ``guard`` marked becomes plain letters.

    Args:
        continues: Other text comes before this one.

    Raises:
        TemplateError: A message spells a control token and the tokenizer cannot encode its letters.
    """
    if _LETTERS not in text and not continues:
        return list(tokenizer.encode(text, add_special_tokens=False, verbose=False))
    added = added_tokens(tokenizer)
    backend, real_ids = _literal_backend(tokenizer, *_cache_key(tokenizer))
    # Without something before it, a sentencepiece tokenizer would put a space before the text.
    anchor = _alias("") if continues else ""
    aliased = added.special.sub(lambda match: _alias(added.ids[match[0]]), text)
    found = backend.encode(anchor + unguard(aliased), add_special_tokens=False).ids
    if not added.special_ids.isdisjoint(found):
        names = tokenizer.convert_ids_to_tokens(sorted(added.special_ids.intersection(found)))
        raise TemplateError(
            f"A message spells the control tokens {names} and this tokenizer has no other ids for "
            "those letters. Drop the row."
        )
    return [real_ids.get(index, index) for index in found[1 if continues else 0 :]]


def _cache_key(tokenizer: PreTrainedTokenizerBase) -> tuple[int, tuple[str, ...]]:
    """What changes when tokens are added to a tokenizer or are declared special."""
    return len(tokenizer), tuple(tokenizer.all_special_tokens)


@functools.lru_cache(maxsize=8)
def _read_added_tokens(
    tokenizer: PreTrainedTokenizerBase, size: int, named: tuple[str, ...]
) -> AddedTokens:
    tokens = tokenizer.added_tokens_decoder
    special = {i: t.content for i, t in tokens.items() if t.special or t.content in named}
    texts = [token.content for token in tokens.values()]
    return AddedTokens(
        ids={token.content: index for index, token in tokens.items()},
        special_ids=frozenset(special),
        special=_any_of(special.values()),
        visible=_any_of(text for text in texts if text.strip(" \t\r\n\u2581")),
    )


def _any_of(texts: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(filter(None, texts), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _alias(token_id: int | str) -> str:
    return f"{_ALIAS}{token_id}{_ALIAS}"


@functools.lru_cache(maxsize=8)
def _literal_backend(
    tokenizer: PreTrainedTokenizerBase, size: int, named: tuple[str, ...]
) -> tuple[Tokenizer, dict[int, int]]:
    """A copy that reads special tokens as letters, and their aliases as the tokens.

    Returns:
        The copy, and the id of the special token for the id of each alias.
    """
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Backend

    original = getattr(tokenizer, "backend_tokenizer", None)
    if original is None:
        raise TemplateError(
            f"{type(tokenizer).__name__} is not a fast tokenizer and cannot encode a message that "
            "spells control tokens. Drop the row, or save the model with a tokenizer.json."
        )
    copy = Backend.from_str(original.to_str())
    copy.no_padding()
    copy.no_truncation()
    copy.encode_special_tokens = True
    special_ids = added_tokens(tokenizer).special_ids
    special = {i: t for i, t in tokenizer.added_tokens_decoder.items() if i in special_ids}
    # One that is special by its role only (EOS) is read as letters once it is marked as special.
    copy.add_special_tokens(
        [_like(token, token.content, special=True) for token in special.values()]
    )
    aliases = [_like(token, _alias(i), special=False) for i, token in special.items()]
    copy.add_tokens([*aliases, AddedToken(_alias(""), normalized=False)])
    real_ids = {_alias(index): index for index in special}
    added = copy.get_added_tokens_decoder().items()
    return copy, {i: real_ids[token.content] for i, token in added if token.content in real_ids}


def _like(token: AddedToken, text: str, *, special: bool) -> AddedToken:
    """A token that is matched as ``token`` is, under another text."""
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    kept = {flag: getattr(token, flag) for flag in flags}
    return type(token)(text, special=special, **kept)

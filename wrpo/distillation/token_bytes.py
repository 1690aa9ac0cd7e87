"""The bytes that tokens stand for, by which tokens of different tokenizers are compared.

Surface strings differ between kinds of tokenizers ("Ġword", "▁word"); bytes do not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from wrpo.errors import ModelError
from wrpo.ids import digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenBytes:
    """Bytes by token id, of one tokenizer; special tokens have none, added ones their letters'.

    Attributes:
        end: id of the token that ends a turn.

    Raises:
        ModelError: the tokenizer is of a kind whose tokens are not known as bytes.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        from wrpo.chat.render import end_of_turn_ids

        read = _reader(tokenizer)
        added = tokenizer.added_tokens_decoder
        special = {*tokenizer.all_special_ids, *(n for n, one in added.items() if one.special)}
        self._bytes: dict[int, bytes] = {
            number: added[number].content.encode() if number in added else read(token)
            for token, number in tokenizer.get_vocab().items()
            if number not in special
        }
        self.end = end_of_turn_ids(tokenizer)[0]
        self._ids: dict[bytes, int] = {}
        for number, content in sorted(self._bytes.items(), reverse=True):
            self._ids[content] = number

    def __getitem__(self, token: int) -> bytes | None:
        """The bytes of a token; None of a special one."""
        return self._bytes.get(token)

    def items(self) -> Iterable[tuple[int, bytes]]:
        """All tokens that stand for bytes."""
        return self._bytes.items()

    def id_of(self, content: bytes) -> int | None:
        """The token of exactly these bytes, the first of several; None: no such token."""
        return self._ids.get(content)

    def spans(self, ids: list[int], text: str) -> list[tuple[int, int] | None]:
        """The bytes of the text that each token of a response stands for, as (start, end).

        The text counts without white space around it, which templates add and trim. None for tokens
        that are not of it; (n, n) for the end of turn behind its n bytes. All are None where the
        tokens do not spell the text.
        """
        whole = text.strip().encode()
        pieces = [self._bytes.get(token) for token in ids]
        # SentencePiece begins a text with a space of its own, and a template may close a thought.
        before = b"".join(piece or b"" for piece in pieces).rfind(whole)
        if before < 0:
            return [None] * len(ids)
        at = -before
        found: list[tuple[int, int] | None] = []
        for token, piece in zip(ids, pieces, strict=True):
            if token == self.end:
                found.append((len(whole), len(whole)) if at >= len(whole) else None)
                continue
            start, at = max(at, 0), at + len(piece or b"")
            found.append((start, at) if start < at <= len(whole) else None)
        return found


def fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Equal for tokenizers of the same tokens under the same ids."""
    return digest(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))


def _reader(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], bytes]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = json.loads(backend.to_str()) if backend is not None else {}
    steps = ("normalizer", "pre_tokenizer", "decoder")
    parts = json.dumps([described.get(step) for step in steps], ensure_ascii=False)
    if "ByteLevel" in parts:
        return _byte_level
    if "Metaspace" in parts or "ByteFallback" in parts or "▁" in parts:
        return _sentencepiece
    raise ModelError(
        f"{tokenizer.name_or_path}: its tokens are not known as bytes (neither byte-level BPE nor "
        "SentencePiece), so they cannot be aligned with another tokenizer's; leave this teacher out"
    )


def _byte_level(token: str) -> bytes:
    table = _byte_alphabet()
    return b"".join(table.get(letter, letter.encode()) for letter in token)


def _sentencepiece(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    return bytes.fromhex(byte[1]) if byte else token.replace("▁", " ").encode()


@lru_cache(maxsize=1)
def _byte_alphabet() -> dict[str, bytes]:
    """Byte-level BPE's letter of each byte: itself where it can be shown, else one from 256 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(number): bytes([number]) for number in shown}
    hidden = [number for number in range(256) if number not in shown]
    return table | {chr(256 + at): bytes([number]) for at, number in enumerate(hidden)}

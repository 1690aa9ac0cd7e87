"""Identities and seeds: hashes of content, so that order, shards and resume do not matter."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any


def digest(value: Any, *, length: int = 16) -> str:
    """Hex digest of a JSON-like value; equal values give equal digests on every machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def normalise_text(text: str) -> str:
    """Unicode NFC, Unix line ends, no space around: what makes two prompts the same prompt."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def prompt_id(messages: Sequence[Mapping[str, str]]) -> str:
    """Hash of the normalised messages."""
    turns = [[turn["role"], normalise_text(turn["content"])] for turn in messages]
    return digest(turns)


def response_seed(run_seed: int, prompt: str, source: str, index: int) -> int:
    """Seed of one sampled response, in [0, 2**31)."""
    return int(digest([run_seed, prompt, source, index]), 16) % 2**31


def unit_hash(seed: int, prompt: str) -> float:
    """A number in [0, 1) fixed by seed and prompt: the split does not move when data is added."""
    return int(digest([seed, prompt], length=13), 16) / 16**13


def triple_id(prompt: str, responses: Sequence[tuple[str, int]]) -> str:
    """Identity of a training row: its prompt and the (source, index) of each of its responses."""
    return digest([prompt, [list(response) for response in responses]])


def response_id(prompt: Sequence[Mapping[str, str]], response: str) -> str:
    """Identity of a response by content: the messages before it and its text, as they are."""
    return digest([[[turn["role"], turn["content"]] for turn in prompt], response])

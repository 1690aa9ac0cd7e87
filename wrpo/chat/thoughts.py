"""Thoughts of reasoning models: `<think>...</think>` before what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

TAGS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"))
"""Opening and closing tags that open models write."""


class Thoughts(NamedTuple):
    """A text in two parts.

    Attributes:
        thought: what stands inside the tags, without them; empty where the model did not think.
        answer: what follows, as it stands.
        closed: False where the closing tag is missing, e.g. because a token limit cut the text;
            `answer` is then empty.
    """

    thought: str
    answer: str
    closed: bool = True


def split_thoughts(text: str, tags: Sequence[tuple[str, str]] = TAGS) -> Thoughts:
    """Splits a text into its thoughts and what follows.

    Thoughts stand at the start; several blocks in a row count as one. A text may lack the opening
    tag, which chat templates often write into the prompt. Tags further on are ordinary text.

    >>> split_thoughts("<think>7 or 8?</think>It is 7.")
    Thoughts(thought='7 or 8?', answer='It is 7.', closed=True)
    >>> split_thoughts("7 or 8?</think>It is 7.").answer
    'It is 7.'
    >>> split_thoughts("<think>7 or").closed
    False
    """
    for opening, closing in tags:
        opened = text.lstrip().startswith(opening)
        if opened or (closing in text and opening not in text.partition(closing)[0]):
            return _split(text, opening, closing)
    return Thoughts("", text)


def _split(text: str, opening: str, closing: str) -> Thoughts:
    blocks: list[str] = []
    rest = text
    while not blocks or rest.lstrip().startswith(opening):
        inside = rest.lstrip().removeprefix(opening)
        block, closed, rest = inside.partition(closing)
        blocks.append(block)
        if not closed:
            return Thoughts("".join(blocks), "", closed=False)
    return Thoughts("".join(blocks), rest)

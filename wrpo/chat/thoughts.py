"""Thoughts: what a thinking model writes before its answer, between two tags.

A response is kept whole, thought and answer, and divided here and nowhere else. What is read of it
by rewards, judges and benchmarks is the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tags = tuple[str, str]
"""What opens a thought, and what closes it."""

THINK: Tags = ("<think>", "</think>")

KNOWN_TAGS = (THINK, ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"))
"""Tags of open models, for replies of models of which no recipe says how they think."""


class Split(NamedTuple):
    """A response in two parts.

    Attributes:
        thought: without its tags; empty where there is none.
        answer: without the blank space before it; empty where the thought is not closed.
        closed: there is no thought, or it ends.
    """

    thought: str
    answer: str
    closed: bool


class ThinkingStyle(NamedTuple):
    """How a model writes its thoughts.

    Attributes:
        opened: what the generation prompt ends with where it opens the thought itself, so that
            responses lack it; else empty.
    """

    tags: Tags = THINK
    opened: str = ""


def split_thoughts(text: str, tags: Tags = THINK) -> Split:
    """Divides a response: blocks between tags at its start are the thought, the rest is the answer.

    A closing tag without an opening one closes a thought that the prompt has opened. Tags in the
    answer are text.
    """
    opening, closing = tags
    thoughts: list[str] = []
    rest = text.lstrip()
    if not rest.startswith(opening) and 0 <= rest.find(closing) < _find(rest, opening):
        rest = opening + rest
    while rest.startswith(opening):
        thought, close, after = rest[len(opening) :].partition(closing)
        thoughts.append(thought.strip())
        if not close:
            return Split("\n\n".join(filter(None, thoughts)), "", closed=False)
        rest = after.lstrip()
    if not thoughts:
        return Split("", text, closed=True)
    return Split("\n\n".join(filter(None, thoughts)), rest, closed=True)


def split_any(text: str) -> Split:
    """The same by whichever of the known tags the text has."""
    splits = (split_thoughts(text, tags) for tags in KNOWN_TAGS)
    return next((split for split in splits if split.answer != text), Split("", text, closed=True))


def answer_start(text: str, tags: Tags = THINK) -> int | None:
    """Where in a response the answer begins, in characters; None where it has no thought, its
    length where the thought is not closed."""
    split = split_thoughts(text, tags)
    if split.closed and split.answer == text:
        return None
    return len(text) - len(split.answer)


def with_thought(thought: str, answer: str, tags: Tags = THINK) -> str:
    """Thought and answer as one response, in the form of most templates."""
    opening, closing = tags
    return f"{opening}\n{thought}\n{closing}\n\n{answer}"


def begins_with_thought(text: str, tags: Tags = THINK) -> bool:
    """Whether a complete block between tags is at the start of a text."""
    return text.lstrip().startswith(tags[0]) and tags[1] in text


def style_of(
    tokenizer: PreTrainedTokenizerBase, tags: Tags = THINK, *, thinks: bool | None = None
) -> ThinkingStyle | None:
    """How a model writes its thoughts, by its chat template; None: it writes none.

    Args:
        thinks: whether it does, where that is known; else it does where its template has one of the
            tags, and its generation prompt does not close a thought.

    Raises:
        TemplateError: it has no chat template, or this refuses one user turn.
    """
    from wrpo.chat.template import render, template_of

    opening, closing = tags
    named = any(tag in template_of(tokenizer) for tag in tags)
    if thinks is False or not (thinks or named):
        return None
    prompt = render(tokenizer, [{"role": "user", "content": "Hello."}], generation_prompt=True)
    if prompt.rstrip().endswith(closing) and thinks is None:
        return None
    opened = prompt[prompt.rindex(opening) :] if prompt.rstrip().endswith(opening) else ""
    return ThinkingStyle(tags, opened)


def _find(text: str, part: str) -> int:
    found = text.find(part)
    return len(text) if found < 0 else found

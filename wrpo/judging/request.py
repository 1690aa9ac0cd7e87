"""What a judge is asked, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wrpo.chat.thoughts import split_any
from wrpo.ids import digest

Body = dict[str, Any]


@dataclass(frozen=True)
class JudgeRequest:
    """One judgement to ask for.

    Attributes:
        messages: the filled-in conversation, roles and contents.
        template: name of the prompt template; a template that changes its words changes its name
            too, e.g. by a digest of its text. Part of the judgement's identity.
        max_tokens: longest verdict where the protocol sets it, else the judge's own limit.
        temperature: likewise.
        top_logprobs: alternatives whose log-probs come back with each token; 0: none.
        seed: tells several judgements of one request apart, at a temperature above 0.
    """

    messages: Sequence[Mapping[str, str]]
    template: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_logprobs: int = 0
    seed: int | None = None

    @property
    def limited(self) -> bool:
        """Whether the protocol, and not the judge, says how long the reply may be."""
        return self.max_tokens is not None

    @property
    def characters(self) -> int:
        """Length of the prompt."""
        return sum(len(message["content"]) for message in self.messages)


@dataclass(frozen=True)
class Verdict:
    """The judge's reply to one request.

    Attributes:
        text: what the judge said, thoughts included; None where the server refuses the request.
        top_logprobs: for each token of the reply the alternatives with their log-probs in nats;
            empty where none were asked for or the server gives none.
        tokens: their texts.
        thoughts: those that the server sends apart from the text.
        finish_reason: "length" means that the verdict was cut; refusals have "refused".
        detail: what the server said about a refusal.
        cached: it was on disk already and cost nothing now.
    """

    text: str | None
    top_logprobs: tuple[dict[str, float], ...] = ()
    tokens: tuple[str, ...] = ()
    thoughts: str = ""
    finish_reason: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    detail: str = ""
    cached: bool = False

    @property
    def answer(self) -> str:
        """What the judge said after its thoughts; empty where it did not come to that."""
        return split_any(self.text or "").answer

    @property
    def thinks(self) -> bool:
        """Whether the reply begins with thoughts."""
        split = split_any(self.text or "")
        return bool(self.thoughts or split.thought.strip() or not split.closed)

    def missing(self, *, limited: bool = False) -> str:
        """Why nothing can be read from the reply: refused, cut, empty; else an empty text.

        Args:
            limited: the protocol says how long the reply may be, so that being cut means nothing.
        """
        if self.text is None:
            return self.detail or "refused"
        if limited and self.top_logprobs:
            return ""
        if self.finish_reason == "length" and not limited:
            return f"cut by the judge's max_tokens: {self.text[-100:]!r}"
        if self.answer.strip():
            return ""
        return "thoughts and nothing else" if self.thinks else "an empty reply"


def request_key(body: Body, *, template: str, version: str) -> str:
    """Identity of a judgement: everything sent, the judge's version, the prompt template."""
    return digest({"body": body, "template": template, "version": version}, length=32)

"""Replies of servers with the OpenAI API: the choice in them, how it ended, and replies that are
none."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal

Ending = Literal["stop", "length", "withheld", "broken"]
"""How a response ended: by itself; at the limit of tokens; by a filter or a call of a tool instead
of text; or by a failure of the server, such that asking again may help."""

ENDINGS: dict[str, Ending] = {
    # OpenAI, vLLM, SGLang, llama.cpp
    "stop": "stop",
    "length": "length",
    "content_filter": "withheld",
    "tool_calls": "withheld",
    "function_call": "withheld",
    "abort": "broken",
    "error": "broken",
    # text-generation-inference
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    # Anthropic
    "end_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "withheld",
    "pause_turn": "withheld",
    "refusal": "withheld",
    # Gemini
    "safety": "withheld",
    "recitation": "withheld",
    "language": "withheld",
    "blocklist": "withheld",
    "prohibited_content": "withheld",
    "spii": "withheld",
    "malformed_function_call": "withheld",
    "other": "broken",
    "finish_reason_unspecified": "broken",
    # Cohere, Mistral, DeepSeek
    "complete": "stop",
    "stop_token": "stop",
    "tool_call": "withheld",
    "error_toxic": "withheld",
    "error_limit": "length",
    "model_length": "length",
    "insufficient_system_resource": "broken",
    # What some proxies write where a server says nothing
    "null": "broken",
    "none": "broken",
    "": "broken",
    "cancelled": "broken",
    "timeout": "broken",
}
"""Finish reasons of servers, in small letters. Only "stop" and "length" give a response."""


class BadReply(ValueError):
    """HTTP 200 without a response in it.

    Attributes:
        status: the HTTP status that it should have had.
    """

    def __init__(self, why: str, *, status: int = HTTPStatus.BAD_GATEWAY) -> None:
        super().__init__(why)
        self.status = status


def ending(finish_reason: object) -> Ending:
    """How a response ended, by the server's word for it; words that nobody knows are "withheld"."""
    word = "" if finish_reason is None else str(finish_reason).lower()
    return ENDINGS.get(word, "withheld")


def choice_of(reply: object) -> dict[str, Any]:
    """The first choice of a reply: a dict with `finish_reason`, and `text` or `message`.

    Raises:
        BadReply: there is none, or the server broke it off.
    """
    if not isinstance(reply, dict):
        raise BadReply(f"the reply is not of the OpenAI API: {reply!r:.200}")
    choices = reply.get("choices")
    if reply.get("error") and not choices:
        raise BadReply(f"HTTP 200 with an error: {_message(reply['error'])}", status=_status(reply))
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not _has_text(choice):
        raise BadReply(f"the reply is not of the OpenAI API: {reply!r:.300}")
    if ending(choice.get("finish_reason")) == "broken":
        said = f": {_message(choice['error'])}" if choice.get("error") else ""
        reason = choice.get("finish_reason")
        raise BadReply(f"the server broke off a response (finish_reason {reason}){said}")
    return choice


def texts_of(choice: dict[str, Any]) -> tuple[str | None, str]:
    """The thought and the text of a choice; None where the server gives no thought apart.

    Servers name the thought `reasoning_content` (vLLM, SGLang, DeepSeek) or `reasoning`
    (OpenRouter, newer vLLM), or give parts of a content of the type "thinking" (Mistral).
    """
    message = choice.get("message") or {"content": choice.get("text")}
    content = message.get("content") or ""
    if isinstance(content, list):
        thoughts = [_part_text(part) for part in content if part.get("type") == "thinking"]
        texts = [_part_text(part) for part in content if part.get("type") != "thinking"]
        return "".join(thoughts) or None, "".join(texts)
    thought = message.get("reasoning_content") or message.get("reasoning")
    return (thought if isinstance(thought, str) and thought.strip() else None), content


def _part_text(part: dict[str, Any]) -> str:
    """The text of one part of a content; a thought has parts of its own."""
    inner = part.get("thinking", part.get("text"))
    if isinstance(inner, list):
        return "".join(_part_text(one) for one in inner if isinstance(one, dict))
    return inner if isinstance(inner, str) else ""


def _has_text(choice: dict[str, Any]) -> bool:
    message = choice.get("message", {"content": choice.get("text", 0)})
    if not isinstance(message, dict) or "finish_reason" not in choice:
        return False
    content = message.get("content")
    if "message" in choice and isinstance(content, list):
        return all(isinstance(part, dict) for part in content)
    return isinstance(content, str | None)


def _message(error: object) -> str:
    text = str(error.get("message", error) if isinstance(error, dict) else error)
    return " ".join(text.split())[:500]


def _status(reply: dict[str, Any]) -> int:
    """The HTTP status that an error names as its code; 502 where it names none."""
    error = reply["error"]
    code = str(error.get("code") if isinstance(error, dict) else "")
    if code.isascii() and code.isdigit() and HTTPStatus.BAD_REQUEST <= int(code) < 600:
        return int(code)
    return HTTPStatus.BAD_GATEWAY

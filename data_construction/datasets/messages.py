"""Messages out of the columns of a dataset."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from wrpo.pipeline.tables import Drop
from wrpo.rows.unread import MESSAGE_KEYS, held, holds_something, message_keys

MessageList = list[dict[str, str]]

_ROLES = ("system", "user", "assistant")
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", **{role: role for role in _ROLES}}

_SPEAKER = re.compile(
    r"""(["'])(?:role|from)\1\s*:\s*(["'])(?:system|user|assistant|human|gpt|tool)\2"""
)


def prompt_messages(value: Any) -> MessageList:
    """Text, one message, or a list of messages; the last turn must be the user's.

    Raises:
        Drop: it is something else, or a user turn is empty.
    """
    messages = to_messages(value)
    if messages[-1]["role"] != "user":
        raise Drop("unusable", f"the last turn is the {messages[-1]['role']}'s, not the user's")
    return messages


def to_messages(value: Any, *, text_role: str = "user") -> MessageList:
    """Text (said by `text_role`), one message, or a list of messages, as a list of messages.

    Raises:
        Drop: it is something else, a user turn is empty, or a turn holds what messages of text do
            not keep.
    """
    if isinstance(value, str):
        value = [{"role": text_role, "content": value}]
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise Drop(
            "unusable", f"the {_kind(text_role)} is {type(value).__name__}, not text or messages"
        )
    return [_message(turn) for turn in value]


def conversation(value: Any) -> tuple[MessageList, str]:
    """(messages before the response, response); no messages where the value is the response only.

    Raises:
        Drop: the last turn is not the assistant's, or it is empty.
    """
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    messages = to_messages(value, text_role="assistant")
    if messages[-1]["role"] != "assistant":
        raise Drop(
            "unusable", f"the last turn is the {messages[-1]['role']}'s, not the assistant's"
        )
    if not messages[-1]["content"].strip():
        raise Drop("unusable", "a response is empty")
    before = messages[:-1]
    return (prompt_messages(before) if before else []), messages[-1]["content"]


def parsed_text(value: Any) -> Any:
    """Messages where a text is nothing but JSON of them, as in cells of CSV; else the value.

    Raises:
        Drop: it is messages in another notation, such as Python's.
    """
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    if not _SPEAKER.search(value):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = None
    turns = parsed if isinstance(parsed, list) else [parsed]
    if all(isinstance(turn, dict) and set(message_keys(turn)) <= turn.keys() for turn in turns):
        return parsed
    if parsed is None and re.match(r"\s*(?:\[\s*)?\{", value):
        raise Drop(
            "unusable",
            f"a text is messages, but not as JSON; write them as JSON, or the table as .jsonl or "
            f".parquet: {value[:80]}",
        )
    return value


def user_text(messages: Sequence[dict[str, str]]) -> str:
    """What the user says, one turn per line; a system text shared by many prompts stays out."""
    return "\n".join(turn["content"] for turn in messages if turn["role"] == "user")


def encodable(text: str) -> str:
    """The text, if it can be written at all.

    Raises:
        Drop: it holds lone surrogates, which is also what bytes that are no UTF-8 become.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Drop(
            "unusable", "its text is not valid Unicode, or its bytes are not UTF-8"
        ) from None
    return text


def _kind(role: str) -> str:
    return "prompt" if role == "user" else "response"


def _message(turn: Any) -> dict[str, str]:
    role, content = _role_and_content(turn) if isinstance(turn, dict) else (None, None)
    if role not in _ROLES or content is None:
        raise Drop("unusable", f"a turn is not {{role, content}} of text: {str(turn)[:80]}")
    if not content.strip() and role == "user":
        raise Drop("unusable", "a user turn is empty")
    return {"role": role, "content": encodable(content)}


def _role_and_content(turn: Mapping[str, Any]) -> tuple[Any, str | None]:
    lost = held(turn, MESSAGE_KEYS)
    if lost:
        raise Drop("unusable", f"a turn holds {lost}, {ignoring(lost)}")
    speaker, text = message_keys(turn)
    role = turn.get(speaker)
    if speaker == "from":
        role = _SHAREGPT_ROLES.get(str(role))
    return role, _text(turn.get(text))


def ignoring(name: str) -> str:
    """The end of a message about a column or key that cannot be kept: why, and the way out."""
    return f"which no training row keeps; `ignore: [{name}]` reads the row without it"


def _text(content: Any) -> str | None:
    """Text, or a list of parts that are all text; None for anything else."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        return None
    texts = [part if isinstance(part, str) else _text_of_part(part) for part in content]
    known = [text for text in texts if text is not None]
    return "".join(known) if len(known) == len(texts) else None


def _text_of_part(part: Any) -> str | None:
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        return None
    more = {key: value for key, value in part.items() if key not in ("type", "text")}
    is_text = part.get("type", "text") == "text" and not holds_something(more)
    return part["text"] if is_text else None

"""Messages out of the columns of a dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wrpo.pipeline.tables import Drop
from wrpo.recipe.prompts import PromptDataset

MessageList = list[dict[str, str]]

_ROLES = ("system", "user", "assistant")
_SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", **{role: role for role in _ROLES}}


def prompt_messages(value: Any) -> MessageList:
    """Text, one message, or a list of messages; the last turn must be the user's.

    Raises:
        Drop: it is something else, or a user turn is empty.
    """
    messages = to_messages(value)
    if messages[-1]["role"] != "user":
        raise Drop("unusable", f"the last turn is the {messages[-1]['role']}'s, not the user's")
    return messages


def dataset_prompt(record: Mapping[str, Any], dataset: PromptDataset) -> MessageList:
    """The prompt of one row of a dataset, with the text of its `input` column after it.

    Raises:
        Drop: there is no such column, or no prompt in it.
    """
    for column in (dataset.prompt, dataset.input):
        if column is not None and column not in record:
            raise Drop("unusable", f'has no column "{column}"; it has: {", ".join(record)}')
    messages = prompt_messages(record[dataset.prompt])
    more = record[dataset.input] if dataset.input is not None else None
    if more is not None and not isinstance(more, str):
        raise Drop("unusable", f"the input is {type(more).__name__}, not text")
    if more and more.strip():
        messages[-1] = {**messages[-1], "content": f"{messages[-1]['content']}\n\n{more}"}
    return prompt_messages(messages)


def to_messages(value: Any, *, text_role: str = "user") -> MessageList:
    """Text (said by `text_role`), one message, or a list of messages, as a list of messages.

    Raises:
        Drop: it is something else, or a user turn is empty.
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
    if role not in _ROLES or not isinstance(content, str):
        raise Drop("unusable", f"a turn is not {{role, content}} of text: {str(turn)[:80]}")
    if not content.strip() and role == "user":
        raise Drop("unusable", "a user turn is empty")
    return {"role": role, "content": encodable(content)}


def _role_and_content(turn: dict[str, Any]) -> tuple[Any, Any]:
    """The two of a turn of role and content, or of from and value (ShareGPT)."""
    if "from" in turn and "role" not in turn:
        return _SHAREGPT_ROLES.get(str(turn["from"])), turn.get("value")
    return turn.get("role"), turn.get("content")

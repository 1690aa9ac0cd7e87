"""The prompt of a row: one column, and what the columns beside it add to it.

* `system` is said before everything else;
* `history` (Alpaca) is earlier exchanges, as [question, response] or as messages;
* `input` (Alpaca) and `context` (Dolly) follow the last user turn after an empty line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from data_construction.datasets.messages import (
    MessageList,
    ignoring,
    prompt_messages,
    to_messages,
)
from wrpo.ids import normalise_text
from wrpo.pipeline.tables import Drop
from wrpo.recipe.prompts import PromptDataset
from wrpo.rows.unread import CONTEXT_COLUMNS, held, holds_something

_FOLLOWING = ("input", "context")


def dataset_prompt(record: Mapping[str, Any], dataset: PromptDataset) -> MessageList:
    """The prompt of one row of a dataset.

    Raises:
        Drop: there is no such column, no prompt in it, or something that a prompt does not keep.
    """
    for column in (dataset.prompt, dataset.input):
        if column is not None and column not in record:
            raise Drop("unusable", f'has no column "{column}"; it has: {", ".join(record)}')
    responses = dataset.responses.column if dataset.responses else None
    named = (dataset.prompt, dataset.domain, responses, *dataset.answer_columns)
    taken = {name for name in named if name is not None}
    value = record[dataset.prompt]
    if dataset.input is None:
        return whole_prompt(record, value, taken=taken)
    value = _followed_by(prompt_messages(value), _text(record, dataset.input))
    return whole_prompt(record, value, taken={*taken, dataset.input})


def whole_prompt(
    record: Mapping[str, Any], value: Any, *, taken: Collection[str] = ()
) -> MessageList:
    """The messages of `value` with what the columns beside it add.

    Args:
        value: text, or messages. To several turns, `input`, `context` and `history` add nothing:
            what they hold must be said there.
        taken: columns that hold something else.

    Raises:
        Drop: it is no prompt; a column contradicts it; or one holds what a prompt does not keep.
    """
    lost = held(record, [name for name in CONTEXT_COLUMNS if name not in taken])
    if lost:
        raise Drop("unusable", f"its column {lost} holds something, {ignoring(lost)}")
    messages = prompt_messages(value)
    alone = len(messages) == 1
    for name in [name for name in _FOLLOWING if name in record and name not in taken]:
        messages = _with_text(messages, _text(record, name), name=name, add=alone)
    if "history" in record and "history" not in taken and holds_something(record["history"]):
        if not alone:
            raise Drop("unusable", _not_in_conversation("history"))
        messages = [*_history(record["history"]), *messages]
    if "system" in record and "system" not in taken:
        messages = _with_system(messages, _text(record, "system"))
    return messages


def _text(record: Mapping[str, Any], column: str) -> str:
    value = record[column]
    if value is not None and not isinstance(value, str):
        raise Drop(
            "unusable",
            f"its {column} is {type(value).__name__}, not text; `ignore: [{column}]` reads the row "
            "without it",
        )
    return value or ""


def _with_text(messages: MessageList, text: str, *, name: str, add: bool) -> MessageList:
    """The text after the only turn, unless the turns say it already."""
    if add and f"\n{text.strip()}\n" not in f"\n{messages[-1]['content']}\n":
        return _followed_by(messages, text)
    if not add and not any(text.strip() in turn["content"] for turn in messages):
        raise Drop("unusable", _not_in_conversation(name))
    return messages


def _followed_by(messages: MessageList, text: str) -> MessageList:
    if not text.strip():
        return messages
    last = {**messages[-1], "content": f"{messages[-1]['content']}\n\n{text}"}
    return prompt_messages([*messages[:-1], last])


def _not_in_conversation(name: str) -> str:
    return (
        f"its column {name} holds what its conversation does not say; `ignore: [{name}]` reads the "
        "row without it"
    )


def _history(value: Any) -> MessageList:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Drop("unusable", f"its history is no list, nor JSON: {value[:80]}") from None
    if not isinstance(value, list):
        raise Drop("unusable", f"its history is {type(value).__name__}, not a list of exchanges")
    turns: list[Any] = []
    for exchange in value:
        if isinstance(exchange, list) and len(exchange) == 2:
            turns += [
                {"role": role, "content": text}
                for role, text in zip(("user", "assistant"), exchange, strict=True)
            ]
        else:
            turns.append(exchange)
    return to_messages(turns)


def _with_system(messages: MessageList, system: str) -> MessageList:
    """The prompt with the text of the column `system` (LLaMA-Factory) before it."""
    if not system.strip():
        return messages
    said = messages[0]["content"].strip() if messages[0]["role"] == "system" else ""
    if said and said != system.strip():
        raise Drop(
            "unusable",
            "its column system and its system turn say different things; `ignore: [system]` takes "
            "the turn",
        )
    if said:
        return messages
    after = messages[1:] if messages[0]["role"] == "system" else messages
    return to_messages([{"role": "system", "content": system}, *after])


def check_same_prompt(value: Any, said: MessageList) -> None:
    """Refuses a prompt in a column of its own that the conversation of a row does not have.

    Raises:
        Drop: a turn of it is not said there, nor part of it.
    """
    if not holds_something(value):
        return
    turns = [normalise_text(turn["content"]) for turn in said]
    for asked in (normalise_text(turn["content"]) for turn in to_messages(value)):
        if not any(asked in turn or (turn and turn in asked) for turn in turns):
            raise Drop("unusable", _not_in_conversation("prompt"))


_LEADS_TO_RESPONSE = re.compile(
    r"(?:\b(?:assistant|response|answer|output|gpt|bot|ai|model)|(?:^|\n)[ \t]*a)\s*[:>|\]]+\s*\Z",
    re.I,
)
_TOO_LONG_FOR_CHANCE = 20


def without_prompt(prompt: MessageList, responses: Mapping[str, str]) -> dict[str, str]:
    """The responses, cut where they repeat a prompt that leads to them, as in "Assistant:".

    Raises:
        Drop: nothing is left of a response; or all begin with a prompt that is too long for chance,
            and nothing says whether it is a part of the response.
    """
    asked = prompt[-1]["content"]
    repeats = [text.startswith(asked) for text in responses.values()]
    if _LEADS_TO_RESPONSE.search(asked):
        cut = {name: text.removeprefix(asked) for name, text in responses.items()}
        if not all(text.strip() for text in cut.values()):
            raise Drop("unusable", "a response is empty")
        return cut
    if all(repeats) and len(asked) >= _TOO_LONG_FOR_CHANCE:
        raise Drop(
            "unusable", f"its responses begin with the prompt; cut it off there: {asked[:80]}"
        )
    return dict(responses)

"""Token ids of a row of triples or pairs.

* conversational: `prompt` one message or a list of messages; `source_chosen`, `chosen`, `rejected`
  one assistant message each, in a list; or any format of `wrpo.rows.formats` that is recognised;
* plain text: `prompt` and the responses are strings;
* tokenised: `prompt_ids`, `source_chosen_ids`, `chosen_ids`, `rejected_ids`.

The optional column `unfinished` names the responses that get no end of turn, because they were cut.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wrpo.errors import DataError
from wrpo.rows.columns import IMPORTED_FROM, TRIPLE_RESPONSES
from wrpo.rows.formats.base import in_our_columns
from wrpo.rows.truncation import TokenIds, TokenLimits
from wrpo.rows.unread import CONTEXT_COLUMNS, MESSAGE_KEYS, RESPONSE_COLUMNS, held

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AnyRow = Mapping[str, Any]


@dataclass(frozen=True)
class RowSettings:
    """What decides the token ids of a row. Part of the fingerprint of the prepared data set.

    `cache_key` holds what else decides log-probabilities, such as the precision, because TRL keys
    its cache of reference log-probabilities by this fingerprint.
    """

    responses: tuple[str, ...] = TRIPLE_RESPONSES
    limits: TokenLimits = field(default_factory=TokenLimits)
    fold_system: bool = False
    needs_scores: bool = False
    cache_key: str = ""


def read_row(
    row: AnyRow, tokenizer: "PreTrainedTokenizerBase", settings: RowSettings
) -> tuple[TokenIds, dict[str, TokenIds]]:
    """Token ids of the prompt and of each response, nothing cut yet.

    Raises:
        DataError: a column is missing or malformed.
        TemplateError: the chat template cannot render the conversation.
    """
    if "prompt_ids" in row:
        names = _read_responses(settings, source=row.get("source_chosen_ids") is not None)
        _require(row, [f"{name}_ids" for name in names])
        return list(row["prompt_ids"]), {name: list(row[f"{name}_ids"]) for name in names}
    row = in_our_columns(row)
    _require(row, ["prompt", "chosen", "rejected"])
    names = _read_responses(settings, source=row.get("source_chosen") is not None)
    _refuse_unreadable(row, names)
    if isinstance(row["prompt"], str):
        return _plain_text_ids(row, tokenizer, names)
    return _conversation_ids(row, tokenizer, names, fold_system=settings.fold_system)


def _refuse_unreadable(row: AnyRow, names: Iterable[str]) -> None:
    """Refuses what a conversation is not whole without and no chat is rendered with."""
    found = held(row, (*CONTEXT_COLUMNS, *RESPONSE_COLUMNS))
    for name in ("prompt", *names):
        value = row.get(name)
        turns = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        keys = (held(turn, MESSAGE_KEYS) for turn in turns if isinstance(turn, Mapping))
        found = found or next((f"{name}[].{key}" for key in keys if key), None)
    if found:
        raise DataError(
            f"{where(row)}: {found} is set, which WRPOTrainer does not read; render the rows "
            "yourself and pass prompt_ids and *_ids columns, or take it out"
        )


def _read_responses(settings: RowSettings, *, source: bool) -> tuple[str, ...]:
    """Responses to read: the original cut looks at y_ws, if there is one, also in DPO.

    Baselines on the same rows are then cut alike, and one table of reference log-probs fits all.
    """
    if not source or settings.limits.mode != "original":
        return settings.responses
    return tuple(dict.fromkeys((*TRIPLE_RESPONSES, *settings.responses)))


def _conversation_ids(
    row: AnyRow, tokenizer: "PreTrainedTokenizerBase", names: Sequence[str], *, fold_system: bool
) -> tuple[TokenIds, dict[str, TokenIds]]:
    from wrpo.chat.render import render_responses

    prompt = row["prompt"]
    messages = [prompt] if isinstance(prompt, Mapping) else list(prompt)
    texts = {name: _response_text(row, name, row.get(name)) for name in names}
    prompt_ids, response_ids = render_responses(
        tokenizer,
        messages,
        list(texts.values()),
        fold_system=fold_system,
        unfinished=[place for place, name in enumerate(texts) if name in _unfinished(row)],
    )
    return prompt_ids, dict(zip(texts, response_ids, strict=True))


def _unfinished(row: AnyRow) -> Collection[str]:
    """Names of the responses that get no end of turn."""
    names = row.get("unfinished")
    return names if isinstance(names, (list, tuple)) else ()


def _is_response(message: Any) -> bool:
    if not isinstance(message, Mapping) or message.get("role") != "assistant":
        return False
    return isinstance(message.get("content"), str)


def _response_text(row: AnyRow, name: str, messages: Any) -> str:
    if messages is None:
        raise DataError(
            f"{where(row)}: no {name}; a triple needs source_chosen, chosen and rejected, or "
            "chosen = [source, target] and rejected (objective: dpo trains on pairs)"
        )
    if isinstance(messages, Mapping):
        messages = [messages]
    alone = isinstance(messages, Sequence) and len(messages) == 1
    if not alone or not _is_response(messages[0]):
        raise DataError(f"{where(row)}: {name} must be one assistant message, got {messages!r}")
    return messages[0]["content"]


def _plain_text_ids(
    row: AnyRow, tokenizer: "PreTrainedTokenizerBase", responses: Sequence[str]
) -> tuple[TokenIds, dict[str, TokenIds]]:
    _require(row, responses)
    end = tokenizer.eos_token
    if end is None:
        raise DataError(
            f"{where(row)}: plain text ends with the tokenizer's EOS token, which this one lacks; "
            "set tokenizer.eos_token, or give conversations"
        )
    prompt = tokenizer(row["prompt"])["input_ids"]
    whole = {}
    for name in responses:
        if not isinstance(row[name], str):
            raise DataError(
                f"{where(row)}: {name} must be text as the prompt is, got {row[name]!r}"
            )
        ends = row[name].endswith(end) or name in _unfinished(row)
        text = row[name] if ends else row[name] + end
        whole[name] = tokenizer(row["prompt"] + text)["input_ids"]
    # Tokens may merge across the end of the prompt: all responses start where the first one does.
    shared = min(_common_prefix(prompt, ids) for ids in whole.values())
    return prompt[:shared], {name: ids[shared:] for name, ids in whole.items()}


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _require(row: AnyRow, columns: Iterable[str]) -> None:
    missing = [column for column in columns if column not in row or row[column] is None]
    if missing:
        raise DataError(
            f"{where(row)}: no {', '.join(missing)}; the row has {', '.join(sorted(row))}"
        )


def where(row: AnyRow) -> str:
    """The row, for a message: file and number where it was imported, else its id."""
    if row.get(IMPORTED_FROM):
        return str(row[IMPORTED_FROM])
    for column in ("triple_id", "prompt_id"):
        if row.get(column) is not None:
            return f"row {column}={row[column]}"
    return "a row"

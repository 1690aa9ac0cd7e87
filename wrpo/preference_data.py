"""Rows of triples or pairs -> token-id columns, the form the collator reads.

A row comes in one of four layouts:

* conversational: `prompt` a list of messages; `source_chosen`, `chosen`, `rejected` one assistant
  message each, in a list;
* published: `prompt` one message or a list, `chosen` = [y_ws, y_wt], `rejected` = [y_l];
* plain text: `prompt` and the responses are strings;
* tokenised: `prompt_ids`, `source_chosen_ids`, `chosen_ids`, `rejected_ids`.

Each becomes the tokenised layout, cut to length, with `length` (tokens of prompt and responses) and
`cut_tokens` (tokens cut from the prompt and from each response).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from wrpo.errors import DataError
from wrpo.truncation import CutCounts, Limits, TokenIds, count_cuts, cut

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedTokenizerBase

RESPONSES = ("source_chosen", "chosen", "rejected")
SCORE_COLUMNS = ("source_chosen_score", "chosen_score")
_UNREAD_COLUMNS = ("image", "images", "tools", "chat_template_kwargs")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class RowSettings:
    """What decides the token ids of a row. Part of the fingerprint of the prepared data set.

    `cache_key` holds what else decides log-probabilities, such as the precision, because TRL keys
    its cache of reference log-probabilities by this fingerprint.
    """

    responses: tuple[str, ...] = RESPONSES
    limits: Limits = field(default_factory=Limits)
    fold_system: bool = False
    needs_scores: bool = False
    cache_key: str = ""


def reference_column(response: str) -> str:
    """Name of the column of summed reference log-probabilities (nats) of a response."""
    return f"ref_{response}_logps"


def reference_length_column(response: str) -> str:
    """Name of the optional column of token counts behind `reference_column`."""
    return f"ref_{response}_length"


def has_reference(columns: Iterable[str], responses: Sequence[str] = RESPONSES) -> bool:
    """Whether `columns` hold reference log-probabilities for the scored `responses`.

    Raises:
        DataError: some of the columns are there and some are not.
    """
    columns = set(columns)
    wanted = [reference_column(response) for response in responses]
    present = [column for column in wanted if column in columns]
    if present and present != wanted:
        missing = [column for column in wanted if column not in columns]
        raise DataError(
            f"the data set has {', '.join(present)} but not {', '.join(missing)}; supply all "
            "reference columns, or none and let the trainer compute them"
        )
    return bool(present)


def name_reference_columns(
    dataset: "Dataset", *, responses: Sequence[str], scored: Sequence[str]
) -> "Dataset":
    """Reference columns of the `scored` responses out of the ones TRL's precomputing pass writes.

    That pass knows two columns: here ref_chosen_logps holds all `responses` of a row but the last,
    in order, and ref_rejected_logps the last.
    """
    columns = [reference_column(name) for name in ("chosen", "rejected")]
    arrays = dataset.with_format("numpy")
    first, last = (arrays[column][:] for column in columns)
    dataset = dataset.remove_columns(columns)
    for response, values in zip(responses, [*first.T, last], strict=True):
        if response in scored:
            dataset = dataset.add_column(reference_column(response), values)
    return dataset


def prepare_row(
    row: Row, *, tokenizer: "PreTrainedTokenizerBase", settings: RowSettings
) -> dict[str, Any]:
    """Token-id columns of one row; see the module docstring for the layouts it accepts.

    A row whose prompt alone fills `max_length` comes back with empty responses.

    Raises:
        DataError: a column is missing, empty or malformed, or reference log-probabilities belong to
            other tokens than those that will be trained on.
        TemplateError: the chat template cannot render the conversation.
    """
    prompt, answers = _token_ids(row, tokenizer, settings)
    for name, ids in {"prompt": prompt, **answers}.items():
        if not ids:
            raise DataError(f"{_where(row)}: {name} holds no tokens; remove the row")
    whole = {"prompt": len(prompt), **{name: len(ids) for name, ids in answers.items()}}
    prompt, answers = cut(prompt, answers, settings.limits, bos=tokenizer.bos_token_id)
    answers = {name: answers[name] for name in settings.responses}
    kept = {"prompt": len(prompt), **{name: len(ids) for name, ids in answers.items()}}
    if settings.needs_scores:
        _check_numbers(row, SCORE_COLUMNS, "likelihood_on: better")
    _check_reference(row, whole, kept)
    return {
        "prompt_ids": prompt,
        **{f"{name}_ids": ids for name, ids in answers.items()},
        "length": sum(kept.values()),
        "cut_tokens": [whole[name] - kept[name] for name in kept],
    }


def prepare_dataset(
    dataset: "Dataset | IterableDataset",
    *,
    tokenizer: "PreTrainedTokenizerBase",
    settings: RowSettings,
    name: str,
    num_proc: int | None = None,
) -> "tuple[Dataset | IterableDataset, CutCounts | None]":
    """Add the token-id columns to a data set and drop the rows that `max_length` leaves no answer.

    The counts are None for a streamed data set, whose rows are prepared while training.

    Raises:
        DataError: see `prepare_row`; or no row is left.
    """
    from datasets import Dataset

    arguments = {"tokenizer": tokenizer, "settings": settings}
    if not isinstance(dataset, Dataset):
        return dataset.map(prepare_row, fn_kwargs=arguments).filter(_has_answers), None
    dataset = dataset.map(
        prepare_row, fn_kwargs=arguments, num_proc=num_proc, desc=f"Tokenizing {name} dataset"
    )
    columns = dataset.select_columns(["cut_tokens", "rejected_ids"])
    counts = count_cuts(columns, ("prompt", *settings.responses))
    if counts.dropped == counts.rows:
        raise DataError(
            f"{name} dataset: no row is left, all {counts.rows} prompts fill max_length="
            f"{settings.limits.max_length}; raise max_length"
        )
    if counts.dropped:
        keep = [i for i, ids in enumerate(columns["rejected_ids"]) if ids]
        dataset = dataset.select(keep)
    return dataset, counts


def _token_ids(
    row: Row, tokenizer: "PreTrainedTokenizerBase", settings: RowSettings
) -> tuple[TokenIds, dict[str, TokenIds]]:
    if "prompt_ids" in row:
        names = _read_responses(settings, source=row.get("source_chosen_ids") is not None)
        _require(row, [f"{name}_ids" for name in names])
        return list(row["prompt_ids"]), {name: list(row[f"{name}_ids"]) for name in names}
    _require(row, ["prompt", "chosen", "rejected"])
    source = row.get("source_chosen") is not None or _is_published(row["chosen"])
    names = _read_responses(settings, source=source)
    for column in _UNREAD_COLUMNS:
        if row.get(column):
            raise DataError(
                f"{_where(row)}: column {column} is set, which WRPOTrainer does not read; render "
                "the rows yourself and pass prompt_ids and *_ids columns"
            )
    if isinstance(row["prompt"], str):
        return _plain_text_ids(row, tokenizer, names)
    return _conversation_ids(row, tokenizer, names, fold_system=settings.fold_system)


def _read_responses(settings: RowSettings, *, source: bool) -> tuple[str, ...]:
    """Responses to read: the original cut looks at y_ws, if there is one, also in DPO.

    Baselines on the same rows are then cut alike, and one table of reference log-probs fits all.
    """
    if not source or settings.limits.mode != "original":
        return settings.responses
    return tuple(dict.fromkeys((*RESPONSES, *settings.responses)))


def _conversation_ids(
    row: Row, tokenizer: "PreTrainedTokenizerBase", names: Sequence[str], *, fold_system: bool
) -> tuple[TokenIds, dict[str, TokenIds]]:
    from wrpo.chat import render_answers

    prompt = row["prompt"]
    messages = [prompt] if isinstance(prompt, Mapping) else list(prompt)
    texts = _answer_texts(row, names)
    prompt_ids, answer_ids = render_answers(
        tokenizer, messages, list(texts.values()), fold_system=fold_system
    )
    return prompt_ids, dict(zip(texts, answer_ids, strict=True))


def _answer_texts(row: Row, responses: Sequence[str]) -> dict[str, str]:
    columns = {name: row.get(name) for name in responses}
    if row.get("source_chosen") is None and _is_published(row["chosen"]):
        source, target = row["chosen"]
        columns["chosen"] = [target]
        if "source_chosen" in columns:
            columns["source_chosen"] = [source]
    return {name: _answer_text(row, name, value) for name, value in columns.items()}


def _is_published(chosen: Any) -> bool:
    """Whether `chosen` is [y_ws, y_wt] rather than one answer or a conversation."""
    return isinstance(chosen, Sequence) and len(chosen) == 2 and all(map(_is_answer, chosen))


def _is_answer(message: Any) -> bool:
    if not isinstance(message, Mapping) or message.get("role") != "assistant":
        return False
    return isinstance(message.get("content"), str)


def _answer_text(row: Row, name: str, messages: Any) -> str:
    if messages is None:
        raise DataError(
            f"{_where(row)}: no {name}; a triple needs source_chosen, chosen and rejected, or "
            "chosen = [source, target] and rejected (objective: dpo trains on pairs)"
        )
    if isinstance(messages, Mapping):
        messages = [messages]
    alone = isinstance(messages, Sequence) and len(messages) == 1
    if not alone or not _is_answer(messages[0]):
        raise DataError(f"{_where(row)}: {name} must be one assistant message, got {messages!r}")
    return messages[0]["content"]


def _plain_text_ids(
    row: Row, tokenizer: "PreTrainedTokenizerBase", responses: Sequence[str]
) -> tuple[TokenIds, dict[str, TokenIds]]:
    _require(row, responses)
    end = tokenizer.eos_token
    if end is None:
        raise DataError(
            f"{_where(row)}: plain text ends with the tokenizer's EOS token, which this one lacks; "
            "set tokenizer.eos_token, or give conversations"
        )
    prompt = tokenizer(row["prompt"])["input_ids"]
    whole = {}
    for name in responses:
        if not isinstance(row[name], str):
            raise DataError(
                f"{_where(row)}: {name} must be text as the prompt is, got {row[name]!r}"
            )
        text = row[name] if row[name].endswith(end) else row[name] + end
        whole[name] = tokenizer(row["prompt"] + text)["input_ids"]
    # Tokens may merge across the end of the prompt: all responses start where the first one does.
    shared = min(_common_prefix(prompt, ids) for ids in whole.values())
    return prompt[:shared], {name: ids[shared:] for name, ids in whole.items()}


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))


def _check_reference(row: Row, whole: Mapping[str, int], kept: Mapping[str, int]) -> None:
    """Refuse reference log-probabilities that belong to other tokens than the kept ones."""
    answers = [name for name in kept if name != "prompt"]
    if not all(kept[name] for name in answers):
        return
    for name in answers:
        if reference_column(name) not in row:
            continue
        _check_numbers(row, [reference_column(name)], "training without a reference model")
        scored = row.get(reference_length_column(name))
        if scored is None and (kept[name], kept["prompt"]) != (whole[name], whole["prompt"]):
            raise DataError(
                f"{_where(row)}: {name} is cut from {whole[name]} to {kept[name]} tokens (prompt "
                f"{whole['prompt']} to {kept['prompt']}), but nothing says how many of them "
                f"{reference_column(name)} covers; raise max_length, or supply "
                f"{reference_length_column(name)}"
            )
        if scored is not None and scored != kept[name]:
            raise DataError(
                f"{_where(row)}: {reference_column(name)} covers {scored} tokens, but {kept[name]} "
                f"tokens of {name} are trained on; use the same tokenizer, template and max_length "
                "for the reference as for training"
            )


def _check_numbers(row: Row, columns: Iterable[str], needed_by: str) -> None:
    for column in columns:
        value = row.get(column)
        if value is None or not math.isfinite(value):
            raise DataError(f"{_where(row)}: {column} is {value}; {needed_by} needs a number in it")


def _require(row: Row, columns: Iterable[str]) -> None:
    missing = [column for column in columns if column not in row or row[column] is None]
    if missing:
        raise DataError(
            f"{_where(row)}: no {', '.join(missing)}; the row has {', '.join(sorted(row))}"
        )


def _where(row: Row) -> str:
    for column in ("triple_id", "prompt_id"):
        if row.get(column) is not None:
            return f"row {column}={row[column]}"
    return "a row"


def _has_answers(row: Row) -> bool:
    return bool(row["rejected_ids"])

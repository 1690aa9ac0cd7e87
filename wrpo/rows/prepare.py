"""Rows of triples or pairs -> token-id columns, the form the collator reads.

A row in any form that `wrpo.rows.token_ids` reads becomes the tokenised one, cut to length, with
`length` (tokens of prompt and responses), `cut_tokens` (tokens cut from the prompt and each
response) and `cut_equal` (a preferred response and the rejected one are equal once they are cut).
"""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from wrpo.errors import DataError
from wrpo.rows.columns import SCORE_COLUMNS, reference_column, reference_length_column
from wrpo.rows.token_ids import AnyRow, RowSettings, read_row, where
from wrpo.rows.truncation import CutCounts, TokenIds, count_cuts, cut

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedTokenizerBase


def prepare_row(
    row: AnyRow, *, tokenizer: "PreTrainedTokenizerBase", settings: RowSettings
) -> dict[str, Any]:
    """Token-id columns of one row, in any form that `wrpo.rows.token_ids` reads.

    A row whose prompt alone fills `max_length` comes back with empty responses, and so does one in
    which the cut leaves a preferred response and the rejected one the same tokens.

    Raises:
        DataError: a column is missing, empty or malformed, or reference log-probabilities belong to
            other tokens than those that will be trained on.
        TemplateError: the chat template cannot render the conversation.
    """
    prompt, responses = read_row(row, tokenizer, settings)
    for name, ids in {"prompt": prompt, **responses}.items():
        if not ids:
            raise DataError(f"{where(row)}: {name} holds no tokens; remove the row")
    whole = {"prompt": len(prompt), **{name: len(ids) for name, ids in responses.items()}}
    prompt, responses = cut(prompt, responses, settings.limits, bos=tokenizer.bos_token_id)
    responses = {name: responses[name] for name in settings.responses}
    kept = {"prompt": len(prompt), **{name: len(ids) for name, ids in responses.items()}}
    cut_tokens = [whole[name] - kept[name] for name in kept]
    cut_equal = any(cut_tokens[1:]) and _equals_rejected(responses)
    if cut_equal:
        responses = {name: [] for name in responses}
        kept = {"prompt": kept["prompt"], **dict.fromkeys(responses, 0)}
    if settings.needs_scores:
        _check_numbers(row, SCORE_COLUMNS, "likelihood_on: better")
    _check_reference(row, whole, kept)
    return {
        "prompt_ids": prompt,
        **{f"{name}_ids": ids for name, ids in responses.items()},
        "length": sum(kept.values()),
        "cut_tokens": cut_tokens,
        "cut_equal": cut_equal,
    }


def prepare_dataset(
    dataset: "Dataset | IterableDataset",
    *,
    tokenizer: "PreTrainedTokenizerBase",
    settings: RowSettings,
    name: str,
    num_proc: int | None = None,
) -> "tuple[Dataset | IterableDataset, CutCounts | None]":
    """Add the token-id columns to a data set and drop the rows that `max_length` leaves no
    response.

    The counts are None for a streamed data set, whose rows are prepared while training.

    Raises:
        DataError: see `prepare_row`; or no row is left.
    """
    from datasets import Dataset

    arguments = {"tokenizer": tokenizer, "settings": settings}
    if not isinstance(dataset, Dataset):
        return dataset.map(prepare_row, fn_kwargs=arguments).filter(_has_responses), None
    dataset = dataset.map(
        prepare_row, fn_kwargs=arguments, num_proc=num_proc, desc=f"Tokenizing {name} dataset"
    )
    columns = dataset.select_columns(["cut_tokens", "cut_equal", "rejected_ids"])
    counts = count_cuts(columns, ("prompt", *settings.responses))
    if counts.dropped + counts.equal == counts.rows:
        raise DataError(
            f"{name} dataset: no row is left: {counts.dropped} prompts fill max_length="
            f"{settings.limits.max_length}, {counts.equal} rows have equal responses once they are "
            "cut; raise max_length"
        )
    if counts.dropped + counts.equal:
        keep = [i for i, ids in enumerate(columns["rejected_ids"]) if ids]
        dataset = dataset.select(keep)
    return dataset, counts


def _equals_rejected(responses: Mapping[str, TokenIds]) -> bool:
    """Whether a preferred response has the tokens of the rejected one, where there are any."""
    rejected = responses.get("rejected")
    if not rejected:
        return False
    return any(ids == rejected for name, ids in responses.items() if name != "rejected")


def _check_reference(row: AnyRow, whole: Mapping[str, int], kept: Mapping[str, int]) -> None:
    """Refuse reference log-probabilities that belong to other tokens than the kept ones."""
    responses = [name for name in kept if name != "prompt"]
    if not all(kept[name] for name in responses):
        return
    for name in responses:
        if reference_column(name) not in row:
            continue
        _check_numbers(row, [reference_column(name)], "training without a reference model")
        scored = row.get(reference_length_column(name))
        if scored is None and (kept[name], kept["prompt"]) != (whole[name], whole["prompt"]):
            raise DataError(
                f"{where(row)}: {name} is cut from {whole[name]} to {kept[name]} tokens (prompt "
                f"{whole['prompt']} to {kept['prompt']}), but nothing says how many of them "
                f"{reference_column(name)} covers; raise max_length, or supply "
                f"{reference_length_column(name)}"
            )
        if scored is not None and scored != kept[name]:
            raise DataError(
                f"{where(row)}: {reference_column(name)} covers {scored} tokens, but {kept[name]} "
                f"tokens of {name} are trained on; use the same tokenizer, template and max_length "
                "for the reference as for training"
            )


def _check_numbers(row: AnyRow, columns: Iterable[str], needed_by: str) -> None:
    for column in columns:
        value = row.get(column)
        if value is None or not math.isfinite(value):
            raise DataError(f"{where(row)}: {column} is {value}; {needed_by} needs a number in it")


def _has_responses(row: AnyRow) -> bool:
    return bool(row["rejected_ids"])

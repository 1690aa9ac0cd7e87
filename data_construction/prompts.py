"""Collects the prompts of a run, drops what cannot or must not be used, and splits them.

Reads:   the datasets named under `prompts:`, and benchmarks to keep clear of
Writes:  RUN/prompts (prompt_id, messages, domain, split, origin, response)
Run:     python -m data_construction.prompts --recipe recipes/demo.yaml
Resume:  starts again; the stage takes seconds (minutes per 100,000 prompts where languages or near
         duplicates are looked for)
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from data_construction.datasets.distinct import DistinctRows, log_unread
from data_construction.datasets.messages import encodable, user_text
from data_construction.datasets.prompt import dataset_prompt
from data_construction.filters.contamination import benchmark_index, whole_text
from data_construction.filters.near_duplicates import near_duplicates
from data_construction.filters.rules import unwanted
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError, MissingInputError
from wrpo.ids import prompt_id, unit_hash
from wrpo.pipeline.parts import open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import PROMPTS, Drop, Row
from wrpo.recipe import Recipe
from wrpo.recipe.prompts import (
    Decontaminate,
    NearDuplicates,
    PromptDataset,
    Prompts,
    explored_datasets,
)
from wrpo.rows.cells import UnreadableCellError, name_text, reference_text

logger = logging.getLogger(__name__)

PromptRows = dict[str, Row]

LOST = ("unusable", "duplicate")
"""Reasons that count for max_dropped_share; the others were asked for."""


def make_prompts(recipe: Recipe) -> None:
    """Runs the stage."""
    pipeline = Pipeline(recipe)
    with open_stage(pipeline, "prompts") as work:
        if work.complete:
            return
        recipe = _with_explored(recipe, pipeline)
        work.facts["unread"] = unread = Counter[str]()
        rows, dropped = collect(recipe, unread=unread)
        lost, total = [row for row in dropped if row["reason"] in LOST], len(rows) + len(dropped)
        work.check_dropped(lost, total=total, limit=recipe.prompts.max_dropped_share)
        work.write_table(rows, PROMPTS, dropped=dropped)
    splits = {name: sum(row["split"] == name for row in rows) for name in ("sft", "preference")}
    reasons = dict(Counter(row["reason"] for row in dropped))
    log_unread("prompts", unread)
    logger.info("prompts: %d rows %s, %d dropped %s", len(rows), splits, len(dropped), reasons)


def _with_explored(recipe: Recipe, pipeline: Pipeline) -> Recipe:
    """The recipe with the folders of explored datasets in the place of their paths."""
    datasets = dict(recipe.prompts.datasets)
    for name in explored_datasets(recipe.prompts):
        folder = str(pipeline.finished(f"explore/{name}"))
        datasets[name] = datasets[name].model_copy(update={"path": folder, "explore": None})
    prompts = recipe.prompts.model_copy(update={"datasets": datasets})
    return recipe.model_copy(update={"prompts": prompts})


def collect(recipe: Recipe, *, unread: Counter[str] | None = None) -> tuple[list[Row], list[Row]]:
    """All prompts by id, and what was dropped, each with its reason.

    Args:
        unread: counts the rows that hold something under a name that no prompt is made of.

    Raises:
        MissingInputError: a dataset is not there.
        DataError: a dataset cannot be read, or no prompt is left.
    """
    settings = recipe.prompts
    found = _distinct(settings.datasets)
    rows, dropped = found.rows, found.dropped
    if unread is not None:
        unread.update(found.unread)
    dropped += _filter(rows, settings)
    if settings.decontaminate:
        dropped += _decontaminate(rows, settings.decontaminate)
    if settings.near_duplicates:
        dropped += _thin_out(rows, settings.near_duplicates)
    for origin, dataset in settings.datasets.items():
        if dataset.max_prompts:
            dropped += _choose(rows, origin, dataset.max_prompts, recipe.seed)
    if not rows:
        reasons = "; ".join(f"{row['reason']}: {row['detail']}" for row in dropped[:3])
        places = ", ".join(dataset.path for dataset in settings.datasets.values())
        raise DataError(
            f"no usable prompt in `prompts.datasets` ({places}). {reasons or 'They hold no rows'}"
        )
    for key, row in rows.items():
        own = settings.datasets[row["origin"]].sft_share
        share = settings.sft_share if own is None else own
        row["split"] = "sft" if unit_hash(recipe.seed, key) < share else "preference"
    return [rows[key] for key in sorted(rows)], dropped


def _distinct(datasets: dict[str, PromptDataset]) -> DistinctRows:
    """Usable prompts by id.

    Where responses come with the prompts, a repeated row is one more response and no drop.

    Raises:
        MissingInputError: a dataset is not there.
        DataError: a dataset cannot be read, or lacks a column that the recipe names.
    """
    found = DistinctRows()
    for origin, dataset in datasets.items():
        try:
            columns = found.add(
                dataset,
                partial(_prompt_row, dataset=dataset, origin=origin),
                limit=dataset.limit,
                drop_repeated=dataset.responses is None,
            )
        except MissingInputError as error:
            raise MissingInputError(f"prompts: {error}") from None
        _check_columns(origin, dataset, columns)
    return found


def _check_columns(origin: str, dataset: PromptDataset, columns: set[str]) -> None:
    """A row may lack a reference answer or a domain; where all do, the name is not the column's."""
    named = [("reference_answer", column) for column in dataset.answer_columns]
    for field, column in (*named, ("domain", dataset.domain)):
        if column is not None and columns and column not in columns:
            raise DataError(
                f"prompts.datasets.{origin}.{field}: no row of {dataset.path} has a column "
                f'"{column}"; they have: {", ".join(sorted(columns))}'
            )


def _filter(rows: PromptRows, settings: Prompts) -> list[Row]:
    """Each dataset's own filters, else those of all."""
    dropped = []
    for key in sorted(rows):
        own = settings.datasets[rows[key]["origin"]].filters
        filters = settings.filters if own is None else own
        if filters is None:
            continue
        drop = unwanted(user_text(rows[key]["messages"]), rows[key]["domain"], filters)
        if drop:
            del rows[key]
            dropped.append(drop.row(key))
    return dropped


def _decontaminate(rows: PromptRows, settings: Decontaminate) -> list[Row]:
    index = benchmark_index(settings)
    dropped = []
    for key in sorted(rows):
        overlap = index.overlap(whole_text(rows[key]["messages"]))
        if overlap:
            del rows[key]
            detail = f"{overlap.benchmark}: {overlap.shared}"
            dropped.append(Drop("contaminated", detail).row(key))
    return dropped


def _thin_out(rows: PromptRows, settings: NearDuplicates) -> list[Row]:
    texts = {key: user_text(row["messages"]) for key, row in rows.items()}
    found = near_duplicates(texts, threshold=settings.threshold, ngram=settings.ngram)
    dropped = []
    for key, duplicate in found.items():
        del rows[key]
        detail = f"of {duplicate.kept}, similarity {duplicate.similarity:.3f}"
        dropped.append(Drop("near_duplicate", detail).row(key))
    return dropped


def _choose(rows: PromptRows, origin: str, count: int, seed: int) -> list[Row]:
    """Keeps `count` prompts of a dataset: those with the lowest hash, which is not the split's."""
    own = [key for key, row in rows.items() if row["origin"] == origin]
    own.sort(key=lambda key: (unit_hash(seed, f"chosen {key}"), key))
    for key in own[count:]:
        del rows[key]
    return [Drop("beyond_max_prompts", origin).row(key) for key in sorted(own[count:])]


def _prompt_row(record: Mapping[str, Any], dataset: PromptDataset, origin: str) -> tuple[str, Row]:
    messages = dataset_prompt(record, dataset)
    key = prompt_id(messages)
    domain = _cell(record, dataset.domain, name_text)
    if dataset.responses:  # read by the stage of their source
        record.get(dataset.responses.column)
    return key, {
        "prompt_id": key,
        "messages": messages,
        "domain": domain if domain is not None else dataset.domain_name or origin,
        "origin": origin,
        "reference_answer": _reference_answer(record, dataset),
    }


def _reference_answer(record: Mapping[str, Any], dataset: PromptDataset) -> str | None:
    """The text of one column, or several as a JSON object."""
    if not isinstance(dataset.reference_answer, list):
        return _cell(record, dataset.reference_answer, reference_text)
    values = {name: record.get(name) for name in dataset.answer_columns}
    if all(value is None for value in values.values()):
        return None
    return _cell({"reference_answer": values}, "reference_answer", reference_text)


def _cell(
    record: Mapping[str, Any], column: str | None, read: Callable[[Any], str | None]
) -> str | None:
    """The text of a cell; None where the recipe names no column, or the row has none."""
    try:
        text = read(record.get(column)) if column else None
    except UnreadableCellError as error:
        raise Drop("unusable", f"{column}: {error}") from None
    return None if text is None else encodable(text)


def main() -> None:
    _, recipe = parse_stage(stage_parser(__doc__))
    make_prompts(recipe)


if __name__ == "__main__":
    run_main(main)

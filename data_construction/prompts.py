"""Collects the prompts of a run, drops what cannot be used, and splits them.

Reads:   the datasets named under `prompts:`
Writes:  RUN/prompts (prompt_id, messages, domain, split, origin, answer)
Run:     python -m data_construction.prompts --recipe recipes/demo.yaml
Resume:  starts again; the stage takes seconds
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from data_construction.dropped import check_dropped
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError, MissingInputError
from wrpo.ids import prompt_id, unit_hash
from wrpo.recipe import Recipe
from wrpo.recipe.schema import PromptDataset
from wrpo.stage_folder import StageFolder
from wrpo.stages import Pipeline
from wrpo.tables import PROMPTS, Row, dropped_row

logger = logging.getLogger(__name__)

_ROLES = ("system", "user", "assistant")


class UnusableRow(Exception):
    """Why one row of a dataset cannot become a prompt."""


def make_prompts(recipe: Recipe) -> None:
    """Runs the stage."""
    pipeline = Pipeline(recipe)
    folder = StageFolder(pipeline.folder("prompts"), pipeline.key("prompts"))
    if folder.open():
        logger.info("prompts: complete, nothing to do (%s)", folder.path)
        return
    with folder.lock():
        rows, dropped = collect(recipe)
        limit = recipe.prompts.max_dropped_share
        check_dropped(folder, dropped, total=len(rows) + len(dropped), limit=limit)
        folder.write_all(rows, PROMPTS, dropped=dropped)
    splits = {name: sum(row["split"] == name for row in rows) for name in ("sft", "preference")}
    logger.info("prompts: %d rows %s, %d dropped", len(rows), splits, len(dropped))


def collect(recipe: Recipe) -> tuple[list[Row], list[Row]]:
    """All prompts by id, and what was dropped: unusable rows and repeated prompts."""
    rows: dict[str, Row] = {}
    dropped: list[Row] = []
    for origin, dataset in recipe.prompts.datasets.items():
        for number, record in islice(_records(dataset), dataset.limit):
            try:
                row = _prompt_row(record, dataset, origin)
            except UnusableRow as problem:
                dropped.append(
                    dropped_row("", "unusable", f"{dataset.path} row {number}: {problem}")
                )
                continue
            if row["prompt_id"] in rows:
                where = f"{dataset.path} row {number}"
                dropped.append(dropped_row(row["prompt_id"], "duplicate", where))
                continue
            in_sft = unit_hash(recipe.seed, row["prompt_id"]) < recipe.prompts.sft_share
            rows[row["prompt_id"]] = {**row, "split": "sft" if in_sft else "preference"}
    if not rows:
        reasons = "; ".join(row["detail"] for row in dropped[:3])
        raise DataError(f"no usable prompt in any dataset of `prompts.datasets`. {reasons}")
    return [rows[key] for key in sorted(rows)], dropped


def _prompt_row(record: Any, dataset: PromptDataset, origin: str) -> Row:
    if isinstance(record, UnusableRow):
        raise record
    if not isinstance(record, dict):
        raise UnusableRow(f"is a {type(record).__name__}, not an object with columns")
    if dataset.prompt not in record:
        raise UnusableRow(f'has no column "{dataset.prompt}"; it has: {", ".join(record)}')
    messages = _messages(record[dataset.prompt])
    answer = record.get(dataset.answer) if dataset.answer else None
    domain = record.get(dataset.domain) if dataset.domain else None
    return {
        "prompt_id": prompt_id(messages),
        "messages": messages,
        "domain": str(domain) if domain is not None else origin,
        "origin": origin,
        "answer": None if answer is None else str(answer),
    }


def _messages(value: Any) -> list[dict[str, str]]:
    """Text, one message, or a list of messages; the last turn must be the user's."""
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise UnusableRow(f"the prompt is {type(value).__name__}, not text or messages")
    messages = [_message(turn) for turn in value]
    if messages[-1]["role"] != "user":
        raise UnusableRow(f"the last turn is the {messages[-1]['role']}'s, not the user's")
    return messages


def _message(turn: Any) -> dict[str, str]:
    role = turn.get("role") if isinstance(turn, dict) else None
    content = turn.get("content") if isinstance(turn, dict) else None
    if role not in _ROLES or not isinstance(content, str):
        raise UnusableRow(f"a turn is not {{role, content}} of text: {str(turn)[:80]}")
    if not content.strip() and role == "user":
        raise UnusableRow("a user turn is empty")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        raise UnusableRow("a turn is not valid Unicode text") from None
    return {"role": role, "content": content}


def _records(dataset: PromptDataset) -> Iterator[tuple[int, Any]]:
    """Numbered records from 1; an unreadable line comes as the UnusableRow that says why."""
    path = Path(dataset.path)
    readers = {
        ".jsonl": _jsonl,
        ".json": _json,
        ".csv": _csv,
        ".parquet": _parquet,
    }
    if path.suffix in readers:
        if not path.is_file():
            raise MissingInputError(f"prompts: no file {path}")
        return enumerate(readers[path.suffix](path), start=1)
    return enumerate(_hub(dataset), start=1)


def _jsonl(path: Path) -> Iterator[Any]:
    with path.open("rb") as lines:
        for line in lines:
            if line.strip():
                try:
                    yield json.loads(line.decode("utf-8"))
                except (UnicodeDecodeError, ValueError, RecursionError) as error:
                    yield UnusableRow(f"not a UTF-8 JSON line ({error})")


def _json(path: Path) -> Iterable[Any]:
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a UTF-8 JSON file: {error}") from None
    if not isinstance(records, list):
        raise DataError(f"{path}: holds a {type(records).__name__}, not a list of rows")
    return records


def _csv(path: Path) -> Iterator[Any]:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            yield from csv.DictReader(lines)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a UTF-8 CSV file: {error}") from None


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as parquet: {error}") from None


def _hub(dataset: PromptDataset) -> Iterable[Any]:
    from datasets import load_dataset

    try:
        return load_dataset(
            dataset.path, dataset.config, split=dataset.split, revision=dataset.revision
        )
    except Exception as error:  # datasets raises many unrelated types for a name it cannot load
        raise MissingInputError(
            f"prompts: cannot load dataset {dataset.path} ({type(error).__name__}: {error}); "
            "check the name and the network, or give a .jsonl, .parquet or .csv file"
        ) from None


def main() -> None:
    _, recipe = parse_stage(stage_parser(__doc__))
    make_prompts(recipe)


if __name__ == "__main__":
    run_main(main)

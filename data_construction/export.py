"""Exports a training table for another toolkit, with a dataset card.

Reads:   RUN/build/TABLE
Writes:  FOLDER: train.parquet or train.jsonl, README.md; for llama-factory also dataset_info.json
Run:     python -m data_construction.export --table triples --layout trl --output FOLDER
Resume:  starts again; the folder appears when it is complete
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

from data_construction.datasets.card import card
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError, RecipeError
from wrpo.pipeline.folder import read_manifest
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import BUILT, Row, read_rows
from wrpo.recipe import Recipe
from wrpo.rows.columns import IMPORTED_FROM
from wrpo.rows.formats.base import row_formats

logger = logging.getLogger(__name__)

FORMATS = ("parquet", "jsonl")


def export_table(
    recipe: Recipe,
    table: str,
    output: Path,
    *,
    layout: str = "trl",
    file_format: str = "parquet",
    licence: str | None = None,
) -> None:
    """Writes the folder.

    Raises:
        DataError: the folder is not empty, or the layout has no such table.
        MissingInputError: the table is not built.
    """
    written = row_formats()[layout]
    if table not in written.tables:
        holds = ", ".join(written.tables)
        raise DataError(f"layout {layout} holds {holds}, not {table}; take another --layout")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise DataError(f"{output} is there and not empty; give a new --output, or remove it")
    source = Pipeline(recipe).finished(f"build/{table}")
    rows = read_rows(source, BUILT[table])
    for row in rows:
        row.pop(IMPORTED_FROM)  # paths of this machine
    file = f"train.{file_format}"
    text = card(
        recipe, table, rows, read_manifest(source) or {}, layout=layout, file=file, licence=licence
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        found = [written.write(row) for row in rows]
        _warn_of_cut_responses(rows, found, layout)
        _write(partial / file, found)
        further = written.further_files(f"{recipe.run}-{table}", data_file=file, table=table)
        for name, content in {"README.md": text, **further}.items():
            (partial / name).write_text(content, encoding="utf-8")
        partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    logger.info("export: %d rows of %s as %s in %s", len(rows), table, layout, output)


def _warn_of_cut_responses(rows: list[Row], written: list[Row], layout: str) -> None:
    cut = sum(bool(row.get("unfinished")) for row in rows)
    if cut and not any("unfinished" in row for row in written):
        logger.warning(
            "export: max_tokens cut a response of %d rows; layout %s has no column for it, and "
            "its toolkit will train an end of turn there. build.unfinished: never leaves such "
            "responses out",
            *(cut, layout),
        )


def _write(path: Path, rows: list[Row]) -> None:
    if path.suffix == ".jsonl":
        with path.open("w", encoding="utf-8") as lines:
            for row in rows:
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")


def main() -> None:
    parser = stage_parser(__doc__, rounds=True)
    parser.add_argument("--table", choices=list(BUILT), required=True, help="which table")
    layouts = [name for name, known in row_formats().items() if known.writes]
    parser.add_argument("--layout", choices=layouts, default="trl", help="for which toolkit")
    parser.add_argument("--output", type=Path, required=True, help="new folder")
    parser.add_argument("--format", choices=FORMATS, default="parquet", help="of the data file")
    parser.add_argument("--license", help="identifier for the card, e.g. apache-2.0")
    args, recipe = parse_stage(parser)
    if f"build/{args.table}" not in Pipeline(recipe):
        raise RecipeError(f"no arm of recipe {recipe.run} trains on {args.table} (wrpo.data)")
    export_table(
        recipe,
        args.table,
        args.output,
        layout=args.layout,
        file_format=args.format,
        licence=args.license,
    )


if __name__ == "__main__":
    run_main(main)

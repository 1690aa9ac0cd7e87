"""Shows rows of any table in readable form.

Run:     python -m data_construction.peek runs/demo/build/triples
         --rows 5          how many (default 3)
         --where KEY=TEXT  only rows whose column holds the text, e.g. --where source=letters
         --dropped         the dropped rows and their reasons instead
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from wrpo.cli import run_main
from wrpo.display.characters import one_line
from wrpo.errors import MissingInputError, RecipeError
from wrpo.pipeline.folder import DROPPED_FILE, read_manifest
from wrpo.pipeline.tables import Row, iter_parts, parts, read_parquet

MAX_TEXT = 400


def describe(folder: Path) -> str:
    """The first lines: which stage, how many rows, complete or not."""
    manifest = read_manifest(folder)
    if manifest is None:
        return f"{folder}: no manifest"
    state = "complete" if manifest["complete"] else "not finished"
    lines = [f"{folder}: {state}, {len(parts(folder))} parts, {manifest.get('rows', '?')} rows"]
    for reason, count in manifest.get("dropped_reasons", {}).items():
        lines.append(f"  dropped: {count} x {one_line(reason)}")
    return "\n".join(lines)


def show_row(row: Row) -> str:
    """One row, one column a line; conversations as `role: text`."""
    return "\n".join(f"  {one_line(name):22} {_show(value)}" for name, value in row.items())


def matching(rows: Iterator[Row], conditions: list[str]) -> Iterator[Row]:
    """The rows in which every `column=text` holds."""
    wanted = dict(condition.split("=", 1) for condition in conditions)
    for row in rows:
        unknown = sorted(set(wanted) - set(row))
        if unknown:
            raise RecipeError(f"--where: no column {unknown[0]}; columns: {', '.join(row)}")
        if all(text in str(row[name]) for name, text in wanted.items()):
            yield row


def _show(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]:
        text = " | ".join(f"{turn['role']}: {turn['content']}" for turn in value)
    elif isinstance(value, (list, dict)):
        text = json.dumps(value, ensure_ascii=False)
    else:
        text = str(value)
    shown = one_line(text[:MAX_TEXT])
    return shown if len(text) <= MAX_TEXT else f"{shown}... ({len(text)} characters)"


def _rows(folder: Path, *, dropped: bool) -> Iterator[Row]:
    if not dropped:
        for rows in iter_parts(folder):
            yield from rows
        return
    whole = folder / DROPPED_FILE
    files = [whole] if whole.is_file() else sorted(folder.glob("dropped-*.parquet"))
    for file in files:
        yield from read_parquet(file)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is no number of rows")
    return int(text)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a stage folder of a run")
    parser.add_argument("--rows", type=_count, default=3)
    parser.add_argument("--where", action="append", default=[], metavar="KEY=TEXT")
    parser.add_argument("--dropped", action="store_true")
    return parser


def main() -> None:
    args = _arguments().parse_args()
    if not args.folder.is_dir():
        raise MissingInputError(f"no folder {args.folder}")
    malformed = [condition for condition in args.where if "=" not in condition]
    if malformed:
        raise RecipeError(f'--where: "{malformed[0]}" is not KEY=TEXT')
    sys.stdout.write(describe(args.folder) + "\n")
    rows = matching(_rows(args.folder, dropped=args.dropped), args.where)
    for row in islice(rows, args.rows):
        sys.stdout.write(f"\n{show_row(row)}\n")


if __name__ == "__main__":
    run_main(main)

"""What a first recipe is made of: from flags, and from questions where they are missing."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wrpo.errors import DataError, RecipeError
from wrpo.files import is_file

VERIFIERS = ("answer", "math", "instruction", "reasoning_gym")
"""Rewards that compare a response with the reference answer of its prompt."""

_PROMPTS = ("prompt", "messages", "question", "instruction", "text", "input")
_REFERENCES = ("reference_answer", "answer", "gold", "target", "solution")


@dataclass(frozen=True)
class Answers:
    """What `wrpo init` has to know.

    Attributes:
        sources: models by name.
        prompts: a file or a data set of the hub.
        prompt: its column of prompts.
        reference_answer: its column of reference answers, if it has one.
        reward: one of `VERIFIERS`, or the model of a classifier.
        rows: of the file; None where it was not read.
    """

    run: str
    target: str
    sources: dict[str, str]
    prompts: str
    prompt: str
    reference_answer: str | None
    reward: str
    rows: int | None = field(default=None)


def add_init_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `wrpo init`."""
    parser.add_argument("--output", type=Path, default=Path("recipe.yaml"), help="file to write")
    parser.add_argument("--target", help="the model that learns: hub id or folder")
    parser.add_argument(
        "--source",
        action="append",
        metavar="MODEL",
        help="a teacher, hub id or folder; NAME=MODEL names it; give it once for each",
    )
    parser.add_argument("--prompts", help="a .jsonl, .csv or .parquet file, or a hub data set")
    parser.add_argument("--prompt-column", help="column of the prompts")
    parser.add_argument("--reference-column", help="column of the reference answers, if there is")
    parser.add_argument(
        "--reward", help=f"{', '.join(VERIFIERS)}, or the model of a reward classifier"
    )


def collect_answers(args: argparse.Namespace, ask: Callable[[str], str] | None = None) -> Answers:
    """Flags first, then questions.

    Args:
        ask: puts a question to the user; unset: `input`, on a terminal only.

    Raises:
        RecipeError: something is missing and nobody can be asked, or an answer makes no sense.
        DataError: the file of prompts cannot be read.
    """
    question = _Questions(ask or (input if sys.stdin.isatty() else None))
    target = args.target or question("--target", "The model that learns (hub id or folder)")
    given = (
        args.source
        or question("--source", "Its teachers, separated by spaces (hub ids or folders)").split()
    )
    prompts = args.prompts or question("--prompts", "File or hub data set of the prompts")
    columns, rows = look_at(prompts)
    prompt = _column(args.prompt_column, columns, _PROMPTS, "--prompt-column", question)
    reference = args.reference_column or _first(_REFERENCES, columns)
    reward = args.reward or question(
        "--reward",
        f"What makes a response good: {', '.join(VERIFIERS)} (these compare it with a reference "
        "answer), or the model of a reward classifier",
    )
    if reward in VERIFIERS and reference is None:
        raise RecipeError(
            f"--reward {reward} compares with reference answers, and {prompts} has no column "
            f"{' or '.join(_REFERENCES[:3])}; name it with --reference-column, or choose the model "
            "of a reward classifier"
        )
    if columns and reference is not None and reference not in columns:
        raise RecipeError(f"--reference-column {reference}: {prompts} has {', '.join(columns)}")
    sources = named_sources(given)
    return Answers(
        args.output.stem, target, sources, prompts, prompt, reference, reward, rows or None
    )


def named_sources(given: Sequence[str]) -> dict[str, str]:
    """Models by name: the one that is given, else the last part of the model's, made unique.

    >>> named_sources(["org/Big-7B", "other=models/x"])
    {'big-7b': 'org/Big-7B', 'other': 'models/x'}
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, model = text.partition("=")
        if not equals:
            name, model = Path(text).name.lower(), text
        base, number = name, 2
        while name in found:
            name, number = f"{base}-{number}", number + 1
        found[name] = model
    return found


def look_at(prompts: str) -> tuple[list[str], int]:
    """Columns and rows of a file of prompts; nothing is known of a folder or a hub data set.

    Raises:
        DataError: it cannot be read.
    """
    path = Path(prompts)
    if not is_file(path):
        if path.suffix in (".jsonl", ".json", ".csv", ".parquet"):
            raise DataError(f"--prompts: no file {prompts} here ({Path.cwd()})")
        return [], 0
    try:
        match path.suffix:
            case ".parquet":
                import pyarrow.parquet as pq

                file = pq.ParquetFile(path)
                return list(file.schema_arrow.names), file.metadata.num_rows
            case ".csv":
                with path.open(encoding="utf-8-sig", newline="") as text:
                    reader = csv.DictReader(text)
                    return list(reader.fieldnames or ()), sum(1 for _ in reader)
            case ".jsonl":
                with path.open(encoding="utf-8-sig") as text:
                    lines = [line for line in text if line.strip()]
                return list(json.loads(lines[0])) if lines else [], len(lines)
    except (OSError, ValueError) as error:
        raise DataError(f"--prompts: {prompts} cannot be read: {error}") from None
    return [], 0


def _column(
    given: str | None,
    columns: Sequence[str],
    usual: Sequence[str],
    flag: str,
    question: Callable[[str, str], str],
) -> str:
    there = f" (it has {', '.join(columns)})" if columns else ""
    name = given or _first(usual, columns) or question(flag, f"Its column of prompts{there}")
    if columns and name not in columns:
        raise RecipeError(f"{flag} {name}: there is no such column{there}")
    return name


def _first(usual: Sequence[str], columns: Sequence[str]) -> str | None:
    return next((name for name in usual if name in columns), None)


class _Questions:
    """Asks, where somebody can be asked."""

    def __init__(self, ask: Callable[[str], str] | None) -> None:
        self._ask = ask

    def __call__(self, flag: str, text: str) -> str:
        if self._ask is None:
            raise RecipeError(f"{flag} is missing: {text}. Without a terminal nobody can be asked")
        reply = self._ask(f"{text}: ").strip()
        if not reply:
            raise RecipeError(f"nothing was said to {text!r}; give it with {flag}")
        return reply

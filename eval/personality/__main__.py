"""Asks a judge of a recipe about personality in texts, or in dialogues of speakers with cards.

Reads   a file of JSON lines: {"text": ...}, dialogues {"cards": [...], "turns": [...]}, or what
        dialogues are made from, {"topic": ..., "cards": [...]}
Writes  the same lines with what the judge says, to --output; prints counts, rates and controls.
        `back-test` also: dialogues that pass to --kept, preference pairs to --pairs
Run     python -m eval.personality --protocol questionnaire --judge big --input IN --output OUT
        python -m eval.personality --protocol dialogues --judge actor --input IN --output MADE
        python -m eval.personality --protocol back-test --judge big --input MADE --output OUT
Resume  the same command again; judgements and what was said stay
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.personality.asking import CountedReplies
from eval.personality.backtest import back_test, passes, rates
from eval.personality.dialogues import TURNS, talk
from eval.personality.items import read_items
from eval.personality.pairs import preference_pairs
from eval.personality.questionnaire import fill_in
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError, RecipeError
from wrpo.files import read_lines, replacing
from wrpo.judging import Judge, JudgementCache, cache_path
from wrpo.recipe import Recipe

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What only one of the protocols takes.

    Attributes:
        items: a file of statements; None: the Mini-IPIP's.
        each: dialogues that are made of each line.
        turns: of both speakers together.
    """

    items: Path | None = None
    each: int = 1
    turns: int = TURNS


def ask_about(
    recipe: Recipe, protocol: str, rows: Sequence[dict[str, Any]], judge: str, options: Options
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows with what the judge says, and the summary.

    Raises:
        RecipeError: the recipe has no such judge, or it always says the same where it should vary.
        DataError: a row has another form.
    """
    if judge not in recipe.judges:
        known = ", ".join(recipe.judges) or "none"
        raise RecipeError(f'--judge: no judge "{judge}" in recipe {recipe.run}; judges: {known}')
    if options.each > 1 and recipe.judges[judge].temperature == 0:
        raise RecipeError(
            f"--each {options.each}: judges.{judge}.temperature is 0, so that all dialogues of a "
            "line would be equal; raise it, or leave --each out"
        )
    with JudgementCache(cache_path(recipe.runs)) as cache:
        asked = Judge(judge, recipe.judges[judge], cache)
        replies = CountedReplies(asked.ask)
        made, summary = _PROTOCOLS[protocol](rows, replies, options)
        logger.info("%s: %s", protocol, asked.used)
    counts = {name: getattr(replies, name) for name in ("asked", "again", "unparsed")}
    return made, {**summary, **counts, "judge": asked.identity}


def _questionnaire(
    rows: Sequence[dict[str, Any]], replies: CountedReplies, options: Options
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    if not all(isinstance(row.get("text"), str) for row in rows):
        raise DataError('every line needs "text", what somebody has written')
    profiles = fill_in([row["text"] for row in rows], read_items(options.items), replies)
    made = [
        {**row, "profile": {trait: one.as_json() for trait, one in own.items()}}
        for row, own in zip(rows, profiles, strict=True)
    ]
    every = [one for own in profiles for one in own.values()]
    undecided = sum(one.high is None for one in every) / max(1, len(every))
    return made, {"texts": len(rows), "undecided": undecided, "guess": 0.5}


def _back_test(
    rows: Sequence[dict[str, Any]], replies: CountedReplies, options: Options
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    found = back_test(rows, replies)
    made = []
    for row, one in zip(rows, found, strict=True):
        verdict: dict[str, dict[str, int | None]] = {}
        for (speaker, trait), value in one.items():
            verdict.setdefault(speaker, {})[trait] = value
        made.append({**row, "verdict": verdict, "ok": passes(row, one)})
    return made, {"dialogues": len(rows), **asdict(rates(rows, found))}


def _dialogues(
    rows: Sequence[dict[str, Any]], replies: CountedReplies, options: Options
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    made = talk(rows, replies, each=options.each, turns=options.turns)
    failed = Counter(row["failed"] for row in made if "failed" in row)
    return made, {"dialogues": len(made), "failed": dict(failed)}


_PROTOCOLS = {"questionnaire": _questionnaire, "back-test": _back_test, "dialogues": _dialogues}


def _write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with replacing(path) as partial:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        partial.write_text(text, encoding="utf-8")


def main() -> None:
    """Asks, writes, prints."""
    parser = stage_parser(__doc__)
    parser.add_argument("--protocol", required=True, choices=_PROTOCOLS)
    parser.add_argument("--input", required=True, type=Path, metavar="FILE")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument("--judge", required=True, metavar="NAME", help="of the recipe")
    parser.add_argument(
        "--items", type=Path, metavar="FILE", help="questionnaire: statements, not the Mini-IPIP's"
    )
    parser.add_argument("--each", type=int, default=1, help="dialogues: so many of each line")
    parser.add_argument(
        "--turns", type=int, default=TURNS, help="dialogues: turns of both (%(default)s)"
    )
    parser.add_argument("--kept", type=Path, metavar="FILE", help="back-test: those that pass")
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="back-test: preference pairs")
    args, recipe = parse_stage(parser)
    if (args.kept or args.pairs) and args.protocol != "back-test":
        parser.error("--kept and --pairs belong to --protocol back-test")
    if min(args.each, args.turns) < 1:
        parser.error("--each and --turns are 1 or more")
    rows = read_lines(args.input)
    options = Options(args.items, args.each, args.turns)
    made, summary = ask_about(recipe, args.protocol, rows, args.judge, options)
    _write_lines(args.output, made)
    if args.kept:
        _write_lines(args.kept, [row for row in made if row["ok"]])
    if args.pairs:
        _write_lines(args.pairs, preference_pairs(made))
    sys.stdout.write(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    run_main(main)

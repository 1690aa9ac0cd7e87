"""Asks a judge of a recipe about personality in texts, or in dialogues of speakers with cards.

Reads   a file of JSON lines: {"text": ...}, or dialogues {"cards": [...], "turns": [...]}
Writes  the same lines with what the judge says, to --output; prints counts, rates and controls
Run     python -m eval.personality --protocol questionnaire --judge big --input IN --output OUT
        python -m eval.personality --protocol back-test --judge big --input IN --output OUT
Resume  the same command again; judgements stay
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from eval.personality.asking import CountedReplies
from eval.personality.backtest import back_test, passes, rates
from eval.personality.items import read_items
from eval.personality.questionnaire import fill_in
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError, RecipeError
from wrpo.files import read_lines, replacing
from wrpo.judging import Judge, JudgementCache, cache_path
from wrpo.recipe import Recipe

logger = logging.getLogger(__name__)


def ask_about(
    recipe: Recipe, protocol: str, rows: Sequence[dict[str, Any]], judge: str, items: Path | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows with what the judge says, and the summary.

    Raises:
        RecipeError: the recipe has no such judge.
        DataError: a row has another form.
    """
    if judge not in recipe.judges:
        known = ", ".join(recipe.judges) or "none"
        raise RecipeError(f'--judge: no judge "{judge}" in recipe {recipe.run}; judges: {known}')
    with JudgementCache(cache_path(recipe.runs)) as cache:
        asked = Judge(judge, recipe.judges[judge], cache)
        replies = CountedReplies(asked.ask)
        made, summary = _PROTOCOLS[protocol](rows, replies, items)
        logger.info("%s: %s", protocol, asked.used)
    counts = {name: getattr(replies, name) for name in ("asked", "again", "unparsed")}
    return made, {**summary, **counts, "judge": asked.identity}


def _questionnaire(
    rows: Sequence[dict[str, Any]], replies: CountedReplies, items: Path | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    if not all(isinstance(row.get("text"), str) for row in rows):
        raise DataError('every line needs "text", what somebody has written')
    profiles = fill_in([row["text"] for row in rows], read_items(items), replies)
    made = [
        {**row, "profile": {trait: one.as_json() for trait, one in own.items()}}
        for row, own in zip(rows, profiles, strict=True)
    ]
    every = [one for own in profiles for one in own.values()]
    undecided = sum(one.high is None for one in every) / max(1, len(every))
    return made, {"texts": len(rows), "undecided": undecided, "guess": 0.5}


def _back_test(
    rows: Sequence[dict[str, Any]], replies: CountedReplies, items: Path | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    found = back_test(rows, replies)
    made = []
    for row, one in zip(rows, found, strict=True):
        verdict: dict[str, dict[str, int | None]] = {}
        for (speaker, trait), value in one.items():
            verdict.setdefault(speaker, {})[trait] = value
        made.append({**row, "verdict": verdict, "ok": passes(row, one)})
    return made, {"dialogues": len(rows), **asdict(rates(rows, found))}


_PROTOCOLS = {"questionnaire": _questionnaire, "back-test": _back_test}


def main() -> None:
    """Asks, writes, prints."""
    parser = stage_parser(__doc__)
    parser.add_argument("--protocol", required=True, choices=_PROTOCOLS)
    parser.add_argument("--input", required=True, type=Path, metavar="FILE")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument("--judge", required=True, metavar="NAME", help="of the recipe")
    parser.add_argument(
        "--items", type=Path, metavar="FILE", help="statements; unset: the Mini-IPIP's"
    )
    args, recipe = parse_stage(parser)
    rows = read_lines(args.input)
    made, summary = ask_about(recipe, args.protocol, rows, args.judge, args.items)
    with replacing(args.output) as partial:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
        partial.write_text(text, encoding="utf-8")
    sys.stdout.write(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    run_main(main)

"""Turns scored answers into training tables: the SFT set, WRPO triples, same-source pairs.

Reads:   RUN/prompts, RUN/sample/*, RUN/score/*; or what `build.imported` names
Writes:  RUN/build/sft, RUN/build/triples, RUN/build/pairs
Run:     python -m data_construction.build --recipe recipes/demo.yaml --table sft
         without --table: every table of the recipe whose inputs are finished
Resume:  starts again; the stage takes seconds, and milliseconds per row of triples or pairs to
         count what truncation will cut, with the target's tokenizer
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from data_construction.dropped import check_dropped
from data_construction.gap_quantiles import candidate_gaps, quantile_window
from data_construction.published import import_table
from data_construction.select import (
    Answer,
    Pair,
    Rejection,
    Triple,
    same_source_pair,
    sft_answer,
    triple,
)
from data_construction.truncated import count_truncated
from data_construction.verified import verified_pair, verified_sft_answer
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError, MissingInputError
from wrpo.ids import triple_id
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.schema import PairRules
from wrpo.stage_folder import StageFolder
from wrpo.stages import BUILD_TABLES, Pipeline
from wrpo.tables import PAIRS, SFT_ROWS, TRIPLES, Row, dropped_row, iter_parts, read_rows

logger = logging.getLogger(__name__)

Answers = dict[str, list[Answer]]
SCHEMAS: dict[str, pa.Schema] = {"sft": SFT_ROWS, "triples": TRIPLES, "pairs": PAIRS}


def build_table(recipe: Recipe, table: str) -> None:
    """Runs one build stage.

    Raises:
        DataError: no prompt gives a row.
        ModelError: the target's tokenizer, which counts what truncation cuts, cannot be loaded.
    """
    pipeline = Pipeline(recipe)
    stage = f"build/{table}"
    folder = StageFolder(pipeline.folder(stage), pipeline.key(stage))
    inputs = [pipeline.finished(name) for name in pipeline[stage].inputs]
    if folder.open():
        logger.info("%s: complete, nothing to do (%s)", stage, folder.path)
        return
    with folder.lock():
        imported = recipe.build.imported.tables().get(table)
        if imported:
            rows, dropped = import_table(imported, table)
            total = len(rows) + len(dropped)
            check_dropped(folder, dropped, total=total, limit=imported.max_dropped_share)
        else:
            rows, dropped = _rows(recipe, pipeline, table, read_rows(inputs[0]))
        if not rows:
            raise DataError(
                f"{stage}: none of {len(dropped)} prompts gives a row; first reason: "
                f"{dropped[0]['reason'] if dropped else 'no prompts in this split'}"
            )
        facts = {} if table == "sft" else {"truncation": count_truncated(recipe, table, rows)}
        folder.write_all(rows, SCHEMAS[table], dropped=dropped, **facts)
    logger.info("%s: %d rows, %d dropped", stage, len(rows), len(dropped))


def _rows(
    recipe: Recipe, pipeline: Pipeline, table: str, prompts: list[Row]
) -> tuple[list[Row], list[Row]]:
    """Training rows and dropped prompts of one table."""
    split = "sft" if table == "sft" else "preference"
    wanted = {row["prompt_id"]: row for row in prompts if row["split"] == split}
    rules = recipe.build.correctness
    verifier = rules.reward if rules else None
    sources = _answers(pipeline, list(recipe.sources), set(wanted), verifier)
    targets = _answers(pipeline, [TARGET], set(wanted), verifier) if table == "triples" else {}
    make = _makers(recipe, wanted, sources, targets)[table]
    rows, dropped = [], []
    for key in sorted(wanted):
        made = make(wanted[key])
        if isinstance(made, Rejection):
            dropped.append(dropped_row(key, made.reason, made.detail))
        else:
            rows.append(made)
    return rows, dropped


def _makers(
    recipe: Recipe, prompts: dict[str, Row], sources: Answers, targets: Answers
) -> dict[str, Callable[[Row], Row | Rejection]]:
    correctness = recipe.build.correctness
    windows = _windows(recipe.build.pairs, prompts, sources)
    verified_domains = set(correctness.domains) if correctness else set()

    def sft(prompt: Row) -> Row | Rejection:
        choose = verified_sft_answer if prompt["domain"] in verified_domains else sft_answer
        chosen = choose(sources.get(prompt["prompt_id"], []))
        return chosen if isinstance(chosen, Rejection) else _sft_row(prompt, chosen)

    def triples(prompt: Row) -> Row | Rejection:
        key = prompt["prompt_id"]
        made = triple(sources.get(key, []), targets.get(key, []), min_gap=recipe.build.min_gap)
        return made if isinstance(made, Rejection) else preference_row(prompt, made)

    def pairs(prompt: Row) -> Row | Rejection:
        own = sources.get(prompt["prompt_id"], [])
        window = windows[prompt["domain"]]
        if correctness and prompt["domain"] in verified_domains:
            made = verified_pair(own, **(window if correctness.window else {}))
        else:
            made = same_source_pair(own, **window)
        return made if isinstance(made, Rejection) else preference_row(prompt, made)

    return {"sft": sft, "triples": triples, "pairs": pairs}


def _windows(
    rules: PairRules, prompts: dict[str, Row], sources: Answers
) -> dict[str, dict[str, Any]]:
    """min_gap and max_gap of pairs, by domain."""
    gaps: dict[str, list[float]] = {row["domain"]: [] for row in prompts.values()}
    if rules.quantiles is None:
        return {domain: rules.model_dump(exclude={"quantiles"}) for domain in gaps}
    for key, row in prompts.items():
        gaps[row["domain"]] += candidate_gaps(sources.get(key, []))
    edges = {domain: quantile_window(own, *rules.quantiles) for domain, own in gaps.items()}
    return {domain: {"min_gap": low, "max_gap": high} for domain, (low, high) in edges.items()}


def _answers(
    pipeline: Pipeline, sources: list[str], wanted: set[str], verifier: str | None
) -> Answers:
    """Scored answers by prompt, joined by (prompt_id, source, index)."""
    found: Answers = {}
    for source in sources:
        scores = {
            (row["prompt_id"], row["index"]): (row["score"], _correct(row["heads"], verifier))
            for rows in iter_parts(pipeline.finished(f"score/{source}"))
            for row in rows
            if row["prompt_id"] in wanted
        }
        for rows in iter_parts(pipeline.finished(f"sample/{source}")):
            for row in rows:
                scored = scores.get((row["prompt_id"], row["index"]))
                if scored is not None:
                    answer = Answer(source, row["index"], row["text"], *scored)
                    found.setdefault(row["prompt_id"], []).append(answer)
    return found


def _correct(heads: list[Row], verifier: str | None) -> bool | None:
    """Whether the verifier gave 1; None where it gave nothing."""
    return next((head["value"] >= 1 for head in heads if head["name"] == verifier), None)


def _sft_row(prompt: Row, chosen: Answer) -> Row:
    return {
        "prompt_id": prompt["prompt_id"],
        "prompt": prompt["messages"],
        "completion": _assistant(chosen.text),
        "source": chosen.source,
        "index": chosen.index,
        "score": chosen.score,
    }


def preference_row(prompt: Row, made: Triple | Pair) -> Row:
    """A trainer-ready row with the provenance and score of each answer."""
    answers: dict[str, Answer] = {"chosen": made.chosen, "rejected": made.rejected}
    if isinstance(made, Triple):
        answers = {"source_chosen": made.source_chosen, **answers}
    key = triple_id(prompt["prompt_id"], [(a.source, a.index) for a in answers.values()])
    row: dict[str, Any] = {
        "triple_id": key,
        "prompt_id": prompt["prompt_id"],
        "prompt": prompt["messages"],
    }
    for name, answer in answers.items():
        row[name] = _assistant(answer.text)
        row[f"{name}_source"] = answer.source
        row[f"{name}_index"] = answer.index
        row[f"{name}_score"] = answer.score
    return row


def _assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _ready_tables(recipe: Recipe) -> None:
    """Builds every table of the recipe whose inputs are there; says what waits for what."""
    pipeline = Pipeline(recipe)
    tables = [table for table in BUILD_TABLES if f"build/{table}" in pipeline.stages]
    waiting: list[MissingInputError] = []
    for table in tables:
        try:
            build_table(recipe, table)
        except MissingInputError as error:
            logger.info("build/%s has to wait: %s", table, error)
            waiting.append(error)
    if len(waiting) == len(tables):
        raise waiting[0]


def _arguments() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    parser.add_argument("--table", choices=BUILD_TABLES, help="one table; default: all ready ones")
    return parser


def main() -> None:
    args, recipe = parse_stage(_arguments())
    if args.table is None:
        _ready_tables(recipe)
        return
    if f"build/{args.table}" not in Pipeline(recipe).stages:
        raise DataError(f"no arm of recipe {recipe.run} trains on {args.table} (wrpo.data)")
    build_table(recipe, args.table)


if __name__ == "__main__":
    run_main(main)

"""Turns responses into training tables: SFT set, triples, pairs, delta pairs, rejection samples.

Reads:   RUN/prompts, RUN/sample/*, RUN/score/*; or what `build.imported` names
Writes:  RUN/build/TABLE: sft, triples, pairs, delta, rejection
Run:     python -m data_construction.build --recipe recipes/demo.yaml --table sft
         without --table: every table of the recipe whose inputs are finished
Resume:  starts again; the stage takes seconds, and milliseconds per row of triples or pairs to
         count what truncation will cut, with the target's tokenizer
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Callable
from functools import partial

from data_construction.datasets.distinct import log_unread
from data_construction.datasets.published import import_table
from data_construction.datasets.renderable import Renderable
from data_construction.selection.rules import TableRules
from data_construction.selection.select import Response
from data_construction.selection.trained_text import TrainedText
from data_construction.selection.truncation_counts import count_truncated
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.errors import DataError, MissingInputError, RecipeError
from wrpo.pipeline.data_stages import built_from, imitated
from wrpo.pipeline.parts import StageWork, open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import (
    BUILT,
    PROMPTS,
    RESPONSES,
    ROW_RESPONSES,
    SCORES,
    UNFINISHED,
    Drop,
    Row,
    iter_parts,
    read_rows,
)
from wrpo.recipe import TARGET, Recipe
from wrpo.recipe.build import ImportedTable
from wrpo.recipe.resolved import taught_question

logger = logging.getLogger(__name__)

Scored = tuple[float, bool | None, dict[str, float]]
_UNSCORED: Scored = (math.nan, None, {})


def build_table(recipe: Recipe, table: str) -> None:
    """Runs one build stage.

    Raises:
        DataError: no prompt gives a row.
        ModelError: the target's tokenizer, which counts what truncation cuts, cannot be loaded.
    """
    pipeline = Pipeline(recipe)
    stage = f"build/{table}"
    inputs = [pipeline.finished(name) for name in pipeline[stage].inputs]
    with open_stage(pipeline, stage) as work:
        if work.complete:
            return
        imported = recipe.build.imported.tables().get(table)
        if imported:
            rows, dropped = _import(recipe, imported, table, work)
        else:
            text = TrainedText(recipe)
            rows, dropped = _rows(recipe, pipeline, table, read_rows(inputs[0], PROMPTS), text)
            if text.thoughts:
                work.facts["thoughts"] = {"responses": text.thoughts, "kept": bool(text.tags)}
        if not rows:
            raise DataError(
                f"{stage}: none of {len(dropped)} prompts gives a row; first reason: "
                f"{dropped[0]['reason'] if dropped else 'no prompts in this split'}"
            )
        if table in ROW_RESPONSES:
            work.facts["truncation"] = count_truncated(recipe, table, rows)
        work.write_table(rows, BUILT[table], dropped=dropped)
    logger.info("%s: %d rows, %d dropped", stage, len(rows), len(dropped))


def _import(
    recipe: Recipe, settings: ImportedTable, table: str, work: StageWork
) -> tuple[list[Row], list[Row]]:
    """Rows that the target's template can render, and dropped ones."""
    found = import_table(settings, table)
    log_unread(work.name, found.unread)
    work.facts["unread"] = found.unread
    renderable = Renderable(recipe, table)
    rows, dropped = [], list(found.dropped)
    for row in found.rows:
        drop = renderable.refused(row)
        if drop:
            dropped.append(drop.row(row["prompt_id"]))
        else:
            rows.append(row)
    total = len(rows) + len(dropped)
    work.check_dropped(dropped, total=total, limit=settings.max_dropped_share)
    return rows, dropped


def _rows(
    recipe: Recipe, pipeline: Pipeline, table: str, prompts: list[Row], text: TrainedText
) -> tuple[list[Row], list[Row]]:
    """Training rows and dropped prompts of one table."""
    split = "sft" if table == "sft" else "preference"
    wanted = {row["prompt_id"]: row for row in prompts if row["split"] == split}
    verifiers = {key: _verifier(recipe, row["domain"]) for key, row in wanted.items()}
    use = recipe.build.unfinished
    names = built_from(recipe, table)
    read = partial(
        _responses, pipeline, verifiers=verifiers, use=use, text=text, scored=table != "delta"
    )
    sources = read([name for name in names if name != TARGET])
    targets = read([name for name in names if name == TARGET])
    _count_unfinished(table, [sources, targets], use)
    rules = TableRules(recipe.build, wanted, sources, targets, question=taught_question(recipe))
    makers: dict[str, Callable[[Row], Row | list[Row] | Drop]] = {
        "sft": rules.sft_row,
        "triples": rules.triple_row,
        "pairs": rules.pair_row,
        "source_pairs": rules.source_pair_rows,
        "delta": rules.delta_row,
        "rejection": rules.rejection_rows,
        "revisions": rules.revision_rows,
        "responses": partial(rules.response_rows, of=imitated(recipe)),
    }
    rows, dropped = [], []
    for key in sorted(wanted):
        made = makers[table](wanted[key])
        if isinstance(made, Drop):
            dropped.append(made.row(key))
        else:
            rows += made if isinstance(made, list) else [made]
    return rows, dropped


def _verifier(recipe: Recipe, domain: str) -> str | None:
    rules = recipe.build.domains.get(domain)
    return rules.verifier if rules else None


def _responses(
    pipeline: Pipeline,
    sources: list[str],
    verifiers: dict[str, str | None],
    use: str,
    text: TrainedText,
    scored: bool,
) -> dict[str, list[Response]]:
    """Responses by prompt, with their scores where `scored`, joined by (prompt_id, source, index).

    Args:
        verifiers: of every prompt that is wanted, the reward that tells right responses, or None.
        use: `build.unfinished`.
        text: what of a response is trained on.
    """
    found: dict[str, list[Response]] = {}
    for source in sources:
        scores = _scores(pipeline, source, verifiers) if scored else None
        for rows in iter_parts(pipeline.finished(f"sample/{source}"), RESPONSES):
            for row in rows:
                place = row["prompt_id"], row["index"]
                score = scores.get(place) if scores is not None else _UNSCORED
                finished = row["finish_reason"] not in UNFINISHED
                if row["prompt_id"] not in verifiers or score is None:
                    continue
                if finished or use != "never":
                    value, correct, rewards = score
                    response = Response(
                        source,
                        row["index"],
                        text(row),
                        value,
                        correct,
                        finished=finished,
                        preferable=finished or use == "any",
                        rewards=rewards,
                    )
                    found.setdefault(row["prompt_id"], []).append(response)
    return found


def _scores(
    pipeline: Pipeline, source: str, verifiers: dict[str, str | None]
) -> dict[tuple[str, int], Scored]:
    """Score, what the verifier says, and all rewards, by prompt and index."""
    return {
        (row["prompt_id"], row["index"]): (
            row["score"],
            _correct(row["rewards"], verifiers[row["prompt_id"]]),
            {reward["name"]: reward["value"] for reward in row["rewards"]},
        )
        for rows in iter_parts(pipeline.finished(f"score/{source}"), SCORES)
        for row in rows
        if row["prompt_id"] in verifiers
    }


def _count_unfinished(table: str, tables: list[dict[str, list[Response]]], use: str) -> None:
    every = [one for found in tables for responses in found.values() for one in responses]
    cut = sum(not response.finished for response in every)
    if cut:
        logger.info(
            "build/%s: %d of %d responses are cut at max_tokens; they may become: %s "
            "(build.unfinished)",
            *(table, cut, len(every), use),
        )


def _correct(rewards: list[Row], verifier: str | None) -> bool | None:
    """Whether the verifier gave 1; None where it gave nothing."""
    return next((reward["value"] >= 1 for reward in rewards if reward["name"] == verifier), None)


def _ready_tables(recipe: Recipe) -> None:
    """Builds every table of the recipe whose inputs are there; says what waits for what."""
    pipeline = Pipeline(recipe)
    stages = pipeline.of_kind("build")
    tables = [stage.args["table"] for stage in stages if stage.round == recipe.round]
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
    parser = stage_parser(__doc__, rounds=True)
    parser.add_argument("--table", choices=list(BUILT), help="one table; default: all ready ones")
    return parser


def main() -> None:
    args, recipe = parse_stage(_arguments())
    if args.table is None:
        _ready_tables(recipe)
        return
    if f"build/{args.table}" not in Pipeline(recipe):
        raise RecipeError(f"no arm of recipe {recipe.run} trains on {args.table} (wrpo.data)")
    build_table(recipe, args.table)


if __name__ == "__main__":
    run_main(main)

"""Revises the responses of a source that the rewards like least; the others stay as they are.

Reads:   RUN/prompts, RUN/sample/SOURCE, RUN/score/SOURCE; where an arm revises, its model
Writes:  RUN/sample/revised/SOURCE: one row per response of SOURCE, under the name revised/SOURCE
Run:     python -m data_construction.revise --source target --recipe recipes/llama3-8b-wrpo.yaml
Resume:  the same command again; finished parts stay, seeds belong to rows
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from data_construction.revising.reviser import Reviser
from data_construction.scoring.scorer import Scorer
from data_construction.selection.revisions import read_revision
from wrpo.cli import parse_stage, run_main, stage_parser
from wrpo.engines import Completion
from wrpo.errors import RecipeError
from wrpo.pipeline.parts import StageWork, open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.pipeline.tables import (
    RESPONSES,
    SCORES,
    UNFINISHED,
    Drop,
    PromptLookup,
    Row,
    answer_of,
    iter_parts,
    parts,
    read_parquet,
)
from wrpo.processes import end_children, leave
from wrpo.recipe import Recipe
from wrpo.recipe.revise import REVISED

logger = logging.getLogger(__name__)

DraftPlace = tuple[str, int]
"""A response of a source: prompt and index."""


def revise_source(recipe: Recipe, source: str) -> None:
    """Makes the parts that are missing.

    Raises:
        RecipeError: the recipe revises no such source.
        MissingInputError: its responses, their scores or the reviser are not there.
    """
    if source not in recipe.revise:
        known = ", ".join(recipe.revise) or "none"
        raise RecipeError(f'revise: nothing about "{source}"; revised are: {known}')
    pipeline = Pipeline(recipe)
    stage = f"sample/{REVISED}{source}"
    files = parts(pipeline.finished(f"sample/{source}"))
    weak, scores = weak_drafts(pipeline, source)
    reviser = Reviser(pipeline, source)
    with open_stage(pipeline, stage, parts=len(files)) as work:
        if work.complete:
            return
        revising = RevisedPart(pipeline, source, reviser, weak=weak, scores=scores)
        for part in work.todo:
            rows, dropped = revising(read_parquet(files[part], RESPONSES))
            work.write_part(part, rows, RESPONSES, dropped=dropped)
        work.facts.update(_facts(work, files, seen=len(weak)))
    reviser.close()
    drafts, seen, changed = (work.facts[name] for name in ("drafts", "seen", "changed"))
    logger.info("%s: %d of %d drafts went to %s", stage, seen, drafts, recipe.revise[source].by)
    logger.info("%s: %d are changed; --dropped of peek shows the others", stage, changed)


def weak_drafts(pipeline: Pipeline, source: str) -> tuple[set[DraftPlace], dict[DraftPlace, float]]:
    """The drafts that the reviser sees, the share of lowest scores, and the scores of all.

    A draft without a score, which no reward can read, is none that it sees.
    """
    scores: dict[DraftPlace, float] = {
        (row["prompt_id"], row["index"]): row["score"]
        for rows in iter_parts(pipeline.finished(f"score/{source}"), SCORES)
        for row in rows
    }
    count = int(pipeline.recipe.revise[source].share * len(scores))
    lowest = sorted(scores, key=lambda place: (scores[place], place))[:count]
    return set(lowest), scores


class RevisedPart:
    """Revises one part of drafts after the other.

    Args:
        weak: the drafts that the reviser sees.
        scores: of all drafts that have one.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        source: str,
        reviser: Reviser,
        *,
        weak: set[DraftPlace],
        scores: dict[DraftPlace, float],
    ) -> None:
        self._source = f"{REVISED}{source}"
        self._gate = Scorer(pipeline.recipe) if pipeline.recipe.revise[source].gate else None
        self._prompts = PromptLookup(pipeline.finished("prompts"))
        self._reviser = reviser
        self._weak, self._scores = weak, scores

    def __call__(self, drafts: list[Row]) -> tuple[list[Row], list[Row]]:
        """A row for each draft, and a row for each revision that is not taken, with the reason."""
        rows = [{**draft, "source": self._source} for draft in drafts]
        places = [n for n, draft in enumerate(drafts) if _place(draft) in self._weak]
        asked = [drafts[place] for place in places]
        replies = self._reviser(asked, [self._prompts[row["prompt_id"]] for row in asked])
        dropped, revised = [], {}
        for place, reply in zip(places, replies, strict=True):
            made = _revised(rows[place], reply)
            if isinstance(made, Drop):
                dropped.append(self._left_out(drafts[place], made))
            elif made is not None:
                revised[place] = made
        for place, why in self._worse(revised, drafts).items():
            dropped.append(self._left_out(drafts[place], why))
            del revised[place]
        return [revised.get(place, row) for place, row in enumerate(rows)], dropped

    def _worse(self, revised: dict[int, Row], drafts: list[Row]) -> dict[int, Drop]:
        """The revisions that score below their drafts, or have no score."""
        if self._gate is None or not revised:
            return {}
        found = {}
        made = self._gate.score(list(revised.values()))
        for place, row in zip(revised, made, strict=True):
            draft = self._scores[_place(drafts[place])]
            if "score" not in row:
                found[place] = Drop("revision_worse", f"it has no score: {row['reason']}")
            elif row["score"] < draft:
                found[place] = Drop("revision_worse", f"{row['score']:g} after {draft:g}")
        return found

    def _left_out(self, draft: Row, why: Drop) -> Row:
        return why.row(draft["prompt_id"], source=self._source, index=draft["index"])


def _revised(row: Row, reply: tuple[str, Completion] | Drop) -> Row | Drop | None:
    """The row with the revision for the draft; None where the draft is kept."""
    if isinstance(reply, Drop):
        return reply
    text, completion = reply
    if completion.finish_reason in UNFINISHED:
        return Drop("revision_unread", "the reviser was cut at max_tokens")
    read = read_revision(text)
    if read is None:
        return Drop("revision_unread", f"no KEEP, MINOR or MAJOR with a response: {text[:80]!r}")
    if read[0] == "KEEP" or read[1] == answer_of(row).strip():
        return None
    unknown: dict[str, Any] = dict.fromkeys(
        ("token_ids", "token_count", "seed", "logprob", "answer_start", "thought_tokens")
    )
    return {**row, "text": read[1], "finish_reason": "stop", **unknown}


def _place(row: Row) -> DraftPlace:
    return row["prompt_id"], row["index"]


def _facts(work: StageWork, files: list[Path], *, seen: int) -> dict[str, Any]:
    """What became of the drafts, from all parts; what was not taken is under dropped_reasons."""
    drafts = {_place(row): row["text"] for file in files for row in read_parquet(file, RESPONSES)}
    rows = [row for file in parts(work.path) for row in read_parquet(file, RESPONSES)]
    changed = sum(row["text"] != drafts[_place(row)] for row in rows)
    return {"drafts": len(drafts), "seen": seen, "changed": changed}


def main() -> None:
    parser = stage_parser(__doc__, rounds=True)
    parser.add_argument("--source", required=True, help="whose responses, as under `revise`")
    args, recipe = parse_stage(parser)
    revise_source(recipe, args.source)
    end_children()
    leave(0)


if __name__ == "__main__":
    run_main(main)

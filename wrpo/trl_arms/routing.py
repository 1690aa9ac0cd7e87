"""Which teacher a prompt is distilled from: the source whose best response scored highest."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from wrpo.errors import DataError
from wrpo.pipeline.tables import SCORES, Row, iter_parts

if TYPE_CHECKING:
    from wrpo.trl_arms.settings import TRLTask

logger = logging.getLogger(__name__)


def best_scores(rows: Iterable[Row]) -> dict[str, float]:
    """The highest score of each prompt, from rows of one source's score table."""
    found: dict[str, float] = {}
    for row in rows:
        if math.isfinite(row["score"]):
            found[row["prompt_id"]] = max(row["score"], found.get(row["prompt_id"], -math.inf))
    return found


def route(
    scores: Mapping[str, Mapping[str, float]], prompt_ids: Sequence[str]
) -> tuple[list[str], int]:
    """The source of each prompt, and how many prompts have several that are best alike.

    Args:
        scores: the best score of each prompt by source; ties go to the first source by name.

    Raises:
        DataError: no source has a score of a prompt.
    """
    chosen, ties = [], 0
    for key in prompt_ids:
        own = {name: table[key] for name, table in sorted(scores.items()) if key in table}
        if not own:
            raise DataError(
                f"prompt {key}: none of {', '.join(scores)} has a scored response; sample and "
                "score them, or name other teachers"
            )
        best = max(own.values())
        winners = [name for name, score in own.items() if score == best]
        chosen.append(winners[0])
        ties += len(winners) > 1
    return chosen, ties


def teacher_ids(task: TRLTask, teachers: Sequence[str]) -> list[str]:
    """The teacher of each row of a task.

    Raises:
        DataError: none of them has a scored response to a prompt.
    """
    tables = {
        name: best_scores(
            row for rows in iter_parts(task.inputs[f"score/{name}"], SCORES) for row in rows
        )
        for name in teachers
    }
    chosen, ties = route(tables, [row["prompt_id"] for row in task.rows])
    counts = ", ".join(f"{name} {count}" for name, count in sorted(Counter(chosen).items()))
    logger.info("teachers by score: %s; %d of %d prompts are ties", counts, ties, len(chosen))
    return chosen

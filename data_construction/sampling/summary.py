"""What the responses of a source are like, for the last lines of sampling and the manifest."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from wrpo.chat.thoughts import THINK, begins_with_thought
from wrpo.pipeline.tables import RESPONSES, UNFINISHED, parts, read_table

logger = logging.getLogger(__name__)

_MANY = 0.1
_COLUMNS = ["finish_reason", "token_count", "thought_tokens"]


def summarise_responses(folder: Path) -> dict[str, Any]:
    """Facts for the manifest, over all parts that are there.

    Returns:
        finish_reasons: responses by finish reason; where there are thoughts, thinking_share: their
        share of all tokens.
    """
    reasons: Counter[str] = Counter()
    tokens = thoughts = 0
    for path in parts(folder):
        table = read_table(path, _COLUMNS, RESPONSES)
        reasons.update(table["finish_reason"].to_pylist())
        tokens += pc.sum(table["token_count"]).as_py() or 0
        thoughts += pc.sum(table["thought_tokens"]).as_py() or 0
    facts: dict[str, Any] = {"finish_reasons": dict(sorted(reasons.items()))}
    return facts | ({"thinking_share": round(thoughts / max(1, tokens), 4)} if thoughts else {})


def log_summary(stage: str, facts: dict[str, Any]) -> None:
    """One line on how the responses ended; a warning where max_tokens cut many."""
    reasons = facts["finish_reasons"]
    total = sum(reasons.values())
    if not total:
        return
    cut = sum(count for reason, count in reasons.items() if reason in UNFINISHED)
    about = [", ".join(f"{reason} {count}" for reason, count in reasons.items())]
    if cut:
        about.append(f"{cut / total:.0%} cut at max_tokens")
    if "thinking_share" in facts:
        about.append(f"{facts['thinking_share']:.0%} of the tokens are thoughts")
    logger.info("%s: %d responses (%s)", stage, total, "; ".join(about))
    if cut > _MANY * total:
        logger.warning(
            "%s: max_tokens cut %.0f%% of the responses; raise sample.max_tokens, or keep them as "
            "rejected responses only (build.unfinished)",
            *(stage, 100 * cut / total),
        )


def warn_of_thoughts(stage: str, folder: Path, *, field: str) -> None:
    """Warns where responses that count as answers as a whole begin with a thought; reads the first
    part.

    Args:
        field: the field of the recipe that says whether they do.
    """
    for path in parts(folder)[:1]:
        table = read_table(path, ["text", "answer_start"], RESPONSES)
        whole = [row for row in table.to_pylist() if row["answer_start"] is None]
        found = sum(begins_with_thought(row["text"]) for row in whole)
        if found:
            logger.warning(
                "%s: %d of the first %d responses begin with %s...%s, which is read and trained on "
                "as part of the answer; set %s to on, or to off if that is meant",
                *(stage, found, table.num_rows, *THINK, field),
            )

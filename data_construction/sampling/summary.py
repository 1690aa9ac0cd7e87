"""How the responses of a source ended, for the last line of sampling and the manifest."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from wrpo.pipeline.tables import RESPONSES, UNFINISHED, parts, read_column

logger = logging.getLogger(__name__)

_MANY = 0.1


def responses_summary(folder: Path) -> dict[str, Any]:
    """Responses of all parts that are there by finish reason, for the manifest."""
    reasons: Counter[str] = Counter()
    for path in parts(folder):
        reasons.update(read_column(path, "finish_reason", RESPONSES).to_pylist())
    return {"finish_reasons": dict(sorted(reasons.items()))}


def log_summary(stage: str, facts: dict[str, Any]) -> None:
    """One line on how the responses ended; a warning where max_tokens cut many."""
    reasons = facts["finish_reasons"]
    total = sum(reasons.values())
    if not total:
        return
    cut = sum(count for reason, count in reasons.items() if reason in UNFINISHED)
    counts = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
    share = f"; {cut / total:.0%} cut at max_tokens" if cut else ""
    logger.info("%s: %d responses (%s%s)", stage, total, counts, share)
    if cut > _MANY * total:
        logger.warning(
            "%s: max_tokens cut %.0f%% of the responses; raise sample.max_tokens, or keep them as "
            "rejected responses only (build.unfinished)",
            *(stage, 100 * cut / total),
        )

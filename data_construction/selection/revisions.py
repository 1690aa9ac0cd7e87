"""What a reviser learns, and what is read from its replies (our reading of SEFT, 2406.10813).

The paper's labels, prompts and limits are not known to us. Here a draft is compared with the best
response to its prompt: where the gap of their scores is small, the draft is kept; where it is
large, it becomes the best response; between, the better response that is most like the draft.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any, Literal, NamedTuple

import numpy as np

from data_construction.selection.select import Response
from wrpo.judging.questions import as_text, fill

Label = Literal["KEEP", "MINOR", "MAJOR"]

_REPLY = re.compile(r"\A\s*(KEEP|MINOR|MAJOR)\b[ \t.:*]*(?:\n(.*))?\Z", re.DOTALL)


class RevisionLesson(NamedTuple):
    """What a reviser should reply to a draft, and the response that the reply is made of."""

    label: Label
    reply: str
    source: Response


def gap_limits(gaps: Sequence[float], quantiles: tuple[float, float]) -> tuple[float, float]:
    """The gaps from which on little, and much, is to change; drafts that are best are kept."""
    if not gaps:
        return 0.0, 0.0
    low, high = np.quantile(np.asarray(gaps, dtype=np.float64), quantiles).tolist()
    return float(low), float(high)


def revision_lesson(
    draft: Response, responses: Sequence[Response], limits: tuple[float, float]
) -> RevisionLesson:
    """The label of a draft among all responses to its prompt, and the reply that goes with it."""
    better = [one for one in responses if one.preferable and one.score > draft.score]
    if not better:
        return RevisionLesson("KEEP", "KEEP", draft)
    best = max(better, key=lambda one: (one.score, one.source, -one.index))
    gap = best.score - draft.score
    if gap < limits[0]:
        return RevisionLesson("KEEP", "KEEP", draft)
    if gap >= limits[1]:
        return RevisionLesson("MAJOR", f"MAJOR\n{best.text}", best)
    nearest = max(better, key=lambda one: (_likeness(draft.text, one.text), one.score))
    return RevisionLesson("MINOR", f"MINOR\n{nearest.text}", nearest)


def _likeness(one: str, other: str) -> float:
    """Share of equal words in order, from 0 to 1."""
    return SequenceMatcher(None, one.split(), other.split(), autojunk=False).ratio()


def revision_question(
    template: str, messages: Sequence[dict[str, str]], draft: str
) -> list[dict[str, Any]]:
    """The messages that ask a reviser for a revision."""
    asked = fill(template, {"conversation": as_text(messages), "draft": draft})
    return [{"role": "user", "content": asked}]


def read_revision(reply: str) -> tuple[Label, str] | None:
    """The label and the improved response of a reply; None where it is no revision.

    >>> read_revision("MINOR\\nThe sea.")
    ('MINOR', 'The sea.')
    >>> read_revision("KEEP")
    ('KEEP', '')
    """
    found = _REPLY.match(reply)
    if found is None:
        return None
    label: Label = found[1]  # type: ignore[assignment]
    text = (found[2] or "").strip()
    if label == "KEEP":
        return label, ""
    return (label, text) if text else None

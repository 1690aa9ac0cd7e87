"""What a generator is told about a retrieved record besides its values (MK-TOD, 2310.08877)."""

from __future__ import annotations

from collections.abc import Sequence

from wrpo.retrieval.exchanges import Record, named

NEGATIVE = "negative"
_LAST_ORDER = 5


def meta_knowledge(
    record: Record,
    *,
    order: int,
    share: float,
    context: str,
    thresholds: Sequence[float] = (0.75, 0.4),
) -> str:
    """Words before a record: its place, how sure the retriever is, whether it was spoken of.

    Args:
        order: 1 for the best.
        share: q of the record among those retrieved. The paper does not say which score its
            thresholds are of; this one is our reading.
        thresholds: from where confidence is high, and mid. The appendix has 0.75 and 0.25.
    """
    high, mid = thresholds
    confidence = "high" if share >= high else "mid" if share >= mid else "low"
    place = str(order) if order <= _LAST_ORDER else "other"
    seen = "old" if named(record.values(), context) else "new"
    return f"order: {place}; confidence: {confidence}; seen: {seen}; "

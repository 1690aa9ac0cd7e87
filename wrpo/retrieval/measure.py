"""How good retrieval and responses are: recall of the best record, Entity-F1, BLEU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from wrpo.retrieval.exchanges import DialogueExchange, named

_LONGEST = 4


def recall_at_1(exchanges: Sequence[DialogueExchange], first: Sequence[int]) -> tuple[float, float]:
    """The share of exchanges whose first record is a best one, and that of a random record.

    Exchanges whose response tells no record from another do not count; NaN where all are such.
    """
    hits, chances = [], []
    for one, place in zip(exchanges, first, strict=True):
        best = one.best()
        if best:
            hits.append(place in best)
            chances.append(len(best) / len(one.records))
    if not hits:
        return math.nan, math.nan
    return sum(hits) / len(hits), sum(chances) / len(chances)


def entity_f1(exchanges: Sequence[DialogueExchange], responses: Sequence[str]) -> float:
    """F1 of the values of records in all responses together (micro average).

    Values of the exchange's records count, each once a response.
    """
    right = said = wanted = 0
    for one, response in zip(exchanges, responses, strict=True):
        values = [value for record in one.records for value in record.values()]
        found, gold = set(named(values, response)), set(named(values, one.response))
        right, said, wanted = right + len(found & gold), said + len(found), wanted + len(gold)
    return 2 * right / (said + wanted) if said + wanted else math.nan


def bleu(references: Sequence[str], responses: Sequence[str]) -> float:
    """BLEU-4 over all responses together, of lower-case words between spaces, from 0 to 1.

    No smoothing: without a common run of four words it is 0.
    """
    common, total = [0] * _LONGEST, [0] * _LONGEST
    length = wanted = 0
    for reference, response in zip(references, responses, strict=True):
        gold, said = reference.lower().split(), response.lower().split()
        length, wanted = length + len(said), wanted + len(gold)
        for n in range(_LONGEST):
            known, found = _runs(gold, n + 1), _runs(said, n + 1)
            common[n] += sum((known & found).values())
            total[n] += sum(found.values())
    if not all(common):
        return 0.0
    precision = sum(math.log(c / t) for c, t in zip(common, total, strict=True)) / _LONGEST
    return math.exp(precision + min(0.0, 1 - wanted / length))


def _runs(words: Sequence[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + length]) for i in range(len(words) - length + 1))

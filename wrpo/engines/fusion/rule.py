"""Which text several models together find likeliest: the rule of Cool-Fusion, and its variants."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Aggregate = Literal["mean_ppl", "mean_nll"]
PerplexityUnit = Literal["byte", "token"]


class Surprise(NamedTuple):
    """What one model says of one text: its negative log-likelihood in nats, and its own tokens."""

    nll: float
    tokens: int


def text_bytes(text: str, *, finished: bool) -> int:
    """The length of a text by which surprises are divided: UTF-8 bytes; an end of turn counts one.

    The division has to see the end of turn, or an empty response would have no length.
    """
    return max(1, len(text.encode("utf-8", "surrogatepass")) + finished)


def mean_surprise(
    surprises: Sequence[Surprise], *, bytes_: int, aggregate: Aggregate, unit: PerplexityUnit
) -> float:
    """What all models together say of one text, in nats; less is likelier.

    ``mean_ppl`` is the logarithm of the paper's mean of perplexities (arXiv 2407.19807), which
    orders texts as that does and does not overflow; ``mean_nll`` is the mean of their logarithms.
    The order of the models changes not one bit of it. What a model finds impossible, or where it
    gives NaN, is infinite.
    """
    each = [
        one.nll / (bytes_ if unit == "byte" else max(1, one.tokens))
        if math.isfinite(one.nll)
        else math.inf
        for one in surprises
    ]
    if aggregate == "mean_nll" or math.inf in each:
        return math.fsum(each) / len(each)
    most = max(each)
    return most + math.log(math.fsum(math.exp(value - most) for value in each) / len(each))


def likeliest(surprises: Mapping[str, float]) -> str:
    """The text of least surprise; of equal ones the first by code points.

    The paper leaves ties open. The index of a source would make the order of the models matter.
    """
    return min(surprises, key=lambda text: (surprises[text], text))

"""Which teacher's distributions a response is learned from (FuseLLM, arXiv 2401.10491)."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from typing import Literal

Choice = Literal["min_ce", "avg_ce"]


def teacher_weights(
    cross_entropies: Mapping[str, float], choice: Choice, *, upstream: bool = False
) -> dict[str, float]:
    """The weight of each teacher's distributions for one response; they add up to 1.

    min_ce     all weight on the teacher with the smallest c; ties go to the first name
    avg_ce     softmax over teachers of exp(-c), the reciprocal perplexity, as the authors' code has
               it (a softmax of -c it is not)

    Args:
        cross_entropies: c of each teacher: its mean negative log-prob per token of the response,
            under its own tokenizer, in nats.
        upstream: compares reciprocal perplexities in bfloat16, where close ones tie and the first
            that is named wins: what the released code does.
    """
    reciprocal = {name: math.exp(-c) for name, c in cross_entropies.items()}
    if choice == "avg_ce":
        powers = {name: math.exp(value) for name, value in reciprocal.items()}
        total = sum(powers.values())
        return {name: power / total for name, power in powers.items()}
    if upstream:
        chosen = max(reciprocal, key=lambda name: _bfloat16(reciprocal[name]))
    else:
        chosen = min(sorted(cross_entropies), key=lambda name: cross_entropies[name])
    return {name: float(name == chosen) for name in cross_entropies}


def _bfloat16(value: float) -> float:
    """The number as bfloat16 holds it, rounded to even."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    bits += 0x7FFF + (bits >> 16 & 1)
    return float(struct.unpack("<f", struct.pack("<I", bits & 0xFFFF0000))[0])

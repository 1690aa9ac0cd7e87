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
    if choice == "avg_ce":
        reciprocal = {name: math.exp(-c) for name, c in cross_entropies.items()}
        powers = {name: math.exp(value) for name, value in reciprocal.items()}
        total = sum(powers.values())
        return {name: power / total for name, power in powers.items()}
    chosen = _likeliest(cross_entropies, upstream=upstream)[0]
    return {name: float(name == chosen) for name in cross_entropies}


def is_tied(cross_entropies: Mapping[str, float], *, upstream: bool = False) -> bool:
    """Whether several teachers find a response likeliest, so that names decide `min_ce`."""
    return len(_likeliest(cross_entropies, upstream=upstream)) > 1


def _likeliest(cross_entropies: Mapping[str, float], *, upstream: bool) -> list[str]:
    """The teachers that find a response likeliest; the one that is chosen comes first."""
    if upstream:
        found = {name: _bfloat16(math.exp(-c)) for name, c in cross_entropies.items()}
    else:
        found = {name: -cross_entropies[name] for name in sorted(cross_entropies)}
    most = max(found.values())
    return [name for name, value in found.items() if value == most]


def _bfloat16(value: float) -> float:
    """The number as bfloat16 holds it, rounded to even."""
    bits = struct.unpack("<I", struct.pack("<f", value))[0]
    bits += 0x7FFF + (bits >> 16 & 1)
    return float(struct.unpack("<f", struct.pack("<I", bits & 0xFFFF0000))[0])

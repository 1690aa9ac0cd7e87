"""Joins tables of log-probabilities to training rows: the ref_* columns that the trainer reads.

Every kind of reference ends in the same two columns per response, ref_NAME_logps (nats) and
ref_NAME_length (tokens), so that the trainer knows one kind only. A reference that is a mean over
tokens under several tokenizers is multiplied by the target's token count, which the loss divides by
again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, NamedTuple

from wrpo.errors import DataError, RecipeError
from wrpo.ids import response_id
from wrpo.objectives.options import FusionRule
from wrpo.pipeline.tables import Row

if TYPE_CHECKING:
    from wrpo.objectives.cgpo import Consensus
    from wrpo.objectives.pair_loss import Fusion

LogProbTable = Mapping[str, Row]
"""Rows of `wrpo.pipeline.tables.LOGPROBS` by response_id."""
ResponseIds = dict[str, str]
"""response_id by name of the response, of one row."""


def rows_by_response_id(rows: Iterable[Row]) -> dict[str, Row]:
    """A table of log-probabilities, ready for lookup."""
    return {row["response_id"]: row for row in rows}


def with_anchors(rows: Sequence[Row]) -> list[Row]:
    """Rows with `anchor`, a response to another prompt: the `chosen` of the next row that has one.

    The rows are a circle, so that the last ones take theirs from the first.

    Raises:
        DataError: there is no other prompt.
    """
    if len({row["prompt_id"] for row in rows}) < 2:
        raise DataError("objective cgpo needs rows of two prompts or more; there is only one")
    anchored: list[Row] = []
    for place, row in enumerate(rows):
        following = (rows[(place + step) % len(rows)] for step in range(1, len(rows)))
        other = next(each for each in following if each["prompt_id"] != row["prompt_id"])
        anchored.append(_with_anchor(row, other))
    return anchored


def _with_anchor(row: Row, other: Row) -> Row:
    unfinished = list(row.get("unfinished") or ())
    if "chosen" in (other.get("unfinished") or ()):
        unfinished.append("anchor")
    return {**row, "anchor": other["chosen"], "unfinished": unfinished}


def with_reference(
    rows: Sequence[Row], table: LogProbTable, *, responses: Sequence[str]
) -> list[Row]:
    """Rows with the log-probabilities of one model, the initial policy.

    Raises:
        DataError: a response is not in the table.
    """
    return _with_initial(rows, _response_ids(rows, responses), table)


def with_fused_reference(
    rows: Sequence[Row],
    initial: LogProbTable,
    sources: Mapping[str, LogProbTable],
    *,
    responses: Sequence[str],
    fusion: Fusion,
    length_normalised: bool,
) -> list[Row]:
    """Rows with the fused reference of the initial policy and the sources (InfiFPO).

    length_normalised: fuse means over tokens instead of sums.

    Raises:
        DataError: a response is missing in a table.
    """
    kind = "mean_logp" if length_normalised else "logp"
    ids = _response_ids(rows, responses)
    for model, table in sources.items():
        _require(rows, ids, table, model=model)
    joined = []
    for row, keys in zip(_with_initial(rows, ids, initial), ids, strict=True):
        fused: Row = {}
        for name, key in keys.items():
            value = fused_reference(
                initial[key][kind],
                [table[key][kind] for table in sources.values()],
                preferred=name != "rejected",
                rule=fusion.rule,
                clip=fusion.clip,
            )
            scale = initial[key]["length"] if length_normalised else 1
            fused[f"ref_{name}_logps"] = value * scale
        joined.append({**row, **fused})
    return joined


def with_consensus(
    rows: Sequence[Row],
    initial: LogProbTable,
    sources: Mapping[str, LogProbTable],
    *,
    responses: Sequence[str],
    settings: Consensus,
) -> list[Row]:
    """Rows whose rejected response has the aligned consensus of the sources for reference (CGPO).

    The other responses keep the initial policy. The consensus of a prompt is aligned over its
    distinct responses in all its rows. The spread of each source's entropy is that over these rows;
    the authors' code takes it from a file of its own.

    Raises:
        DataError: a response is missing in a table, or a table has no entropies.
        RecipeError: the least weights of the sources add up to 1 or more.
    """
    _require_room(len(sources), settings)
    ids = _response_ids(rows, responses)
    for model, table in sources.items():
        _require(rows, ids, table, model=model)
    joined = _with_initial(rows, ids, initial)
    spreads = _spreads(ids, sources) if settings.weighting == "entropy" else None
    of_prompt: dict[str, set[str]] = {}
    for row, keys in zip(rows, ids, strict=True):
        of_prompt.setdefault(row["prompt_id"], set()).update(keys.values())
    levels: dict[str, float] = {}
    for together in of_prompt.values():
        ordered = sorted(together)
        consensus = [_consensus(key, sources, spreads, settings) for key in ordered]
        level = aligned_consensus(consensus, [initial[key]["mean_logp"] for key in ordered])
        levels |= dict(zip(ordered, level, strict=True))
    rejected = [keys["rejected"] for keys in ids]
    return [
        {**row, "ref_rejected_logps": levels[key] * initial[key]["length"]}
        for row, key in zip(joined, rejected, strict=True)
    ]


def _require_room(sources: int, settings: Consensus) -> None:
    if settings.weighting == "entropy" and sources * settings.floor >= 1.0:
        raise RecipeError(
            f"cgpo.floor is {settings.floor:g}, which {sources} sources cannot all have at least; "
            f"set it below {1.0 / sources:g}"
        )


def _consensus(
    key: str, sources: Mapping[str, LogProbTable], spreads: list[Spread] | None, settings: Consensus
) -> float:
    found = [table[key] for table in sources.values()]
    means = [row["mean_logp"] for row in found]
    if spreads is None:
        return sum(means) / len(means)
    weights = source_weights(
        [row["mean_entropy"] for row in found],
        spreads,
        temperature=settings.temperature,
        floor=settings.floor,
    )
    return sum(weight * mean for weight, mean in zip(weights, means, strict=True))


def _spreads(ids: Sequence[ResponseIds], sources: Mapping[str, LogProbTable]) -> list[Spread]:
    distinct = {key for keys in ids for key in keys.values()}
    spreads = []
    for model, table in sources.items():
        entropies = [table[key]["mean_entropy"] for key in distinct]
        if any(entropy is None for entropy in entropies):
            raise DataError(
                f"the log-probs of {model} have no entropies, which cgpo.weighting entropy needs; "
                "set logprobs.method to trainer, or cgpo.weighting to uniform"
            )
        spreads.append(entropy_spread(entropies))
    return spreads


def _with_initial(
    rows: Sequence[Row], ids: Sequence[ResponseIds], table: LogProbTable
) -> list[Row]:
    _require(rows, ids, table, model="sft")
    joined = []
    for row, keys in zip(rows, ids, strict=True):
        columns: Row = {}
        for name, key in keys.items():
            columns[f"ref_{name}_logps"] = table[key]["logp"]
            columns[f"ref_{name}_length"] = table[key]["length"]
        joined.append({**row, **columns})
    return joined


def _require(
    rows: Sequence[Row], ids: Sequence[ResponseIds], table: LogProbTable, *, model: str
) -> None:
    missing = [
        (row["triple_id"], name)
        for row, keys in zip(rows, ids, strict=True)
        for name, key in keys.items()
        if key not in table
    ]
    if missing:
        row, name = missing[0]
        raise DataError(
            f"{len(missing)} of {sum(map(len, ids))} responses have no log-probs under "
            f"{model}, e.g. {name} of row {row}; delete the folder of these log-probs and make it "
            "again"
        )


def _response_ids(rows: Sequence[Row], responses: Sequence[str]) -> list[ResponseIds]:
    return [
        {name: response_id(row["prompt"], row[name][0]["content"]) for name in responses}
        for row in rows
    ]


# InfiFPO's eq. 24 calls it "a small constant"; it keeps a log-probability of 0 from dividing by 0.
_CONFIDENCE_EPSILON = 1e-6

# Limits of CGPO's published code.
_LARGEST_Z = 5.0
_SMALLEST_SPREAD = 1e-6


def fused_reference(
    initial: float, sources: Sequence[float], *, preferred: bool, rule: FusionRule, clip: bool
) -> float:
    """Log-probability of a response under the fused reference, in the unit of the arguments.

    Args:
        initial: under the initial policy.
        sources: under each source model.
        preferred: whether the response is a preferred one.
        rule: max_margin takes the source that differs most from the initial policy (eq. 12),
            average the mean over the initial policy and the sources (eq. 23), confidence a mean
            weighted by 1 / -log-probability (eqs. 24 and 25).
        clip: keep a source from falling below the initial policy on a preferred response, and from
            rising above it on another (eq. 11).

    The paper leaves open whether eq. 12 compares with the policy of the moment or the initial one,
    and whether it picks per response or per pair; here it is the initial one, per response. The
    initial policy counts as one of the sources, as the text after eq. 5 says.

    Source: InfiFPO (arXiv 2505.13878), numbers of its equations; its training code is not public.
    """
    if clip:
        bound = max if preferred else min
        sources = [bound(source, initial) for source in sources]
    if rule == "max_margin":
        return max(sources, key=lambda source: abs(source - initial))
    candidates = [initial, *sources]
    if rule == "average":
        return fmean(candidates)
    confidence = [1.0 / (_CONFIDENCE_EPSILON - candidate) for candidate in candidates]
    return fmean(candidates, confidence)


class Spread(NamedTuple):
    """Mean and population standard deviation of a source's mean token entropies."""

    mean: float
    deviation: float


def entropy_spread(entropies: Sequence[float]) -> Spread:
    """Calibration of one source: how its mean token entropy varies over responses.

    Source: CGPO (2026), eq. 10 as its code numbers it. There entropies are divided by the log of
    the vocabulary's size, which cancels in the z-scores that the spread is for.
    """
    return Spread(fmean(entropies), max(pstdev(entropies), _SMALLEST_SPREAD))


def source_weights(
    entropies: Sequence[float],
    spreads: Sequence[Spread],
    *,
    temperature: float,
    floor: float,
) -> list[float]:
    """Weight of each source for one response; they add up to 1, none is below `floor`.

        z_i = (H_i - mean_i) / deviation_i, within -5 and 5
        w_i = floor + (1 - N * floor) * softmax(-z / temperature)_i

    A source that is surer than it usually is weighs more.

    Source: as `entropy_spread`.
    """
    scores = [
        (entropy - spread.mean) / spread.deviation
        for entropy, spread in zip(entropies, spreads, strict=True)
    ]
    powers = [math.exp(-min(_LARGEST_Z, max(-_LARGEST_Z, score)) / temperature) for score in scores]
    free = 1.0 - len(powers) * floor
    return [floor + free * power / sum(powers) for power in powers]


def aligned_consensus(consensus: Sequence[float], initial: Sequence[float]) -> list[float]:
    """Consensus of the sources on the responses of one prompt, shifted to the initial policy's
    level.

    Both arguments hold one mean log-probability per response; the shift makes their means equal.

    Source: CGPO (2026), eq. 13 as its code numbers it.
    """
    shift = fmean(initial) - fmean(consensus)
    return [value + shift for value in consensus]

"""Joins tables of log-probabilities to training rows: the ref_* columns that the trainer reads.

Every kind of reference ends in the same two columns per answer, ref_NAME_logps (nats) and
ref_NAME_length (tokens), so that the trainer knows one kind only. A reference that is a mean over
tokens under several tokenizers is multiplied by the target's token count, which the loss divides by
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from wrpo.errors import DataError
from wrpo.fusion import (
    Spread,
    aligned_consensus,
    entropy_spread,
    fused_reference,
    source_weights,
)
from wrpo.ids import answer_id
from wrpo.recipe.training_sections import CGPO, Fusion
from wrpo.tables import Row

LogProbs = Mapping[str, Row]
"""Rows of `wrpo.tables.LOGPROBS` by answer_id."""


def by_answer(rows: Iterable[Row]) -> dict[str, Row]:
    """A table of log-probabilities, ready for lookup."""
    return {row["answer_id"]: row for row in rows}


def with_anchors(rows: Sequence[Row]) -> list[Row]:
    """Rows with `anchor`, an answer to another prompt: the `chosen` of the next row.

    Raises:
        DataError: there is no other prompt.
    """
    if len({row["prompt_id"] for row in rows}) < 2:
        raise DataError("objective cgpo needs rows of two prompts or more; there is only one")
    return [
        {**row, "anchor": following["chosen"]}
        for row, following in zip(rows, [*rows[1:], rows[0]], strict=True)
    ]


def with_reference(rows: Sequence[Row], table: LogProbs, *, answers: Sequence[str]) -> list[Row]:
    """Rows with the log-probabilities of one model, the initial policy.

    Raises:
        DataError: an answer is not in the table.
    """
    _require(rows, table, answers, model="sft")
    return [
        row | {key: value for name in answers for key, value in _columns(row, name, table).items()}
        for row in rows
    ]


def with_fused_reference(
    rows: Sequence[Row],
    initial: LogProbs,
    sources: Mapping[str, LogProbs],
    *,
    answers: Sequence[str],
    fusion: Fusion,
    length_normalised: bool,
) -> list[Row]:
    """Rows with the fused reference of the initial policy and the sources (InfiFPO).

    length_normalised: fuse means over tokens instead of sums.

    Raises:
        DataError: an answer is missing in a table.
    """
    kind = "mean_logp" if length_normalised else "logp"
    for model, table in sources.items():
        _require(rows, table, answers, model=model)
    joined = []
    for row in with_reference(rows, initial, answers=answers):
        fused: Row = {}
        for name in answers:
            key = _id(row, name)
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
    initial: LogProbs,
    sources: Mapping[str, LogProbs],
    *,
    answers: Sequence[str],
    settings: CGPO,
) -> list[Row]:
    """Rows whose rejected answer has the aligned consensus of the sources for reference (CGPO).

    The other answers keep the initial policy. The spread of each source's entropy is that over
    these rows; the authors' code takes it from a file of its own.

    Raises:
        DataError: an answer is missing in a table, or a table has no entropies.
    """
    for model, table in sources.items():
        _require(rows, table, answers, model=model)
    spreads = _spreads(rows, sources, answers) if settings.weighting == "entropy" else None
    joined = []
    for row in with_reference(rows, initial, answers=answers):
        keys = [_id(row, name) for name in answers]
        consensus = [_consensus(key, sources, spreads, settings) for key in keys]
        level = aligned_consensus(consensus, [initial[key]["mean_logp"] for key in keys])
        rejected = dict(zip(answers, level, strict=True))["rejected"]
        length = initial[_id(row, "rejected")]["length"]
        joined.append({**row, "ref_rejected_logps": rejected * length})
    return joined


def _consensus(
    key: str, sources: Mapping[str, LogProbs], spreads: list[Spread] | None, settings: CGPO
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


def _spreads(
    rows: Sequence[Row], sources: Mapping[str, LogProbs], answers: Sequence[str]
) -> list[Spread]:
    keys = {_id(row, name) for row in rows for name in answers}
    spreads = []
    for model, table in sources.items():
        entropies = [table[key]["mean_entropy"] for key in keys]
        if any(entropy is None for entropy in entropies):
            raise DataError(
                f"the log-probs of {model} have no entropies, which cgpo.weighting entropy needs; "
                "set logprobs.method to trainer, or cgpo.weighting to uniform"
            )
        spreads.append(entropy_spread(entropies))
    return spreads


def _columns(row: Row, name: str, table: LogProbs) -> Row:
    found = table[_id(row, name)]
    return {f"ref_{name}_logps": found["logp"], f"ref_{name}_length": found["length"]}


def _require(rows: Sequence[Row], table: LogProbs, answers: Sequence[str], *, model: str) -> None:
    missing = [
        (row["triple_id"], name) for row in rows for name in answers if _id(row, name) not in table
    ]
    if missing:
        row, name = missing[0]
        raise DataError(
            f"{len(missing)} of {len(rows) * len(answers)} answers have no log-probs under "
            f"{model}, e.g. {name} of row {row}; delete the folder of these log-probs and make it "
            "again"
        )


def _id(row: Row, name: str) -> str:
    return answer_id(row["prompt"], row[name][0]["content"])

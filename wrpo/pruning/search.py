"""Which blocks a model needs least: greedy search by perplexity. A heavy import."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from wrpo.errors import DataError, ModelError
from wrpo.pruning.blocks import ResidualBlock, without

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Removable = tuple[ResidualBlock, ...]
"""What is removed at once: a block, or both blocks of a layer."""


class Removal(NamedTuple):
    """One step of the search.

    Attributes:
        unit: what is removed.
        perplexity: without it and all that was removed before.
        evaluations: perplexities that were computed for this step.
        not_finite: how many of them were NaN or infinite, which never win.
    """

    unit: Removable
    perplexity: float
    evaluations: int
    not_finite: int


def pack(ids: Sequence[int], *, sequence_tokens: int, most_tokens: int) -> Tensor:
    """Sequences (count, sequence_tokens) of one long text; what is left over is not read.

    No sequence is padded, so that no token, whatever its id, is left out of the loss.

    Raises:
        DataError: not one sequence is full.
    """
    count = min(len(ids), most_tokens) // sequence_tokens
    if count == 0:
        raise DataError(
            f"prune: {min(len(ids), most_tokens)} tokens to calibrate with make no sequence of "
            f"prune.sequence_tokens={sequence_tokens}; give more texts, a larger "
            "prune.calibration_tokens, or a smaller prune.sequence_tokens"
        )
    return torch.tensor(ids[: count * sequence_tokens]).view(count, sequence_tokens)


@torch.inference_mode()
def perplexity(model: PreTrainedModel, sequences: Tensor, *, batch: int = 8) -> float:
    """exp of the mean over sequences (count, length) of the mean NLL of their tokens in nats.

    All sequences have one length, so the mean over tokens is the same.
    """
    total = 0.0
    for start in range(0, len(sequences), batch):
        ids = sequences[start : start + batch].to(model.device)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        nll = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        total += float(nll.double().view(len(ids), -1).mean(1).sum())
    mean = total / len(sequences)
    return math.exp(mean) if mean < 700 else math.inf


def greedy(
    units: Sequence[Removable],
    count: int,
    measure: Callable[[list[ResidualBlock]], float],
    *,
    done: Sequence[Removal] = (),
) -> Iterator[Removal]:
    """The removals after those that are done; each takes the unit that costs least.

    Of equal perplexities, the first unit wins. With n units and k removals there are
    n + (n - 1) + ... + (n - k + 1) measurements (arXiv 2406.10594, algorithm 1).

    Args:
        measure: the perplexity without some blocks.

    Raises:
        ModelError: without any further unit the perplexity is not finite.
    """
    removed = [removal.unit for removal in done]
    while len(removed) < count:
        left = [unit for unit in units if unit not in removed]
        gone = [block for unit in removed for block in unit]
        measured = {unit: measure([*gone, *unit]) for unit in left}
        finite = {unit: value for unit, value in measured.items() if math.isfinite(value)}
        if not finite:
            raise ModelError(
                f"after {len(removed)} removals the perplexity is finite without no further block; "
                "lower prune.remove"
            )
        best = min(finite, key=finite.__getitem__)
        removed.append(best)
        yield Removal(best, measured[best], len(left), len(left) - len(finite))


def measured_by(
    model: PreTrainedModel, sequences: Tensor, *, batch: int
) -> Callable[[list[ResidualBlock]], float]:
    """What `greedy` asks for."""

    def measure(blocks: list[ResidualBlock]) -> float:
        with without(model, blocks):
            return perplexity(model, sequences, batch=batch)

    return measure


def removal_to_json(removal: Removal) -> dict[str, Any]:
    """A removal as it is kept."""
    return {**removal._asdict(), "unit": [list(block) for block in removal.unit]}


def removal_from_json(kept: dict[str, Any]) -> Removal:
    """The reverse of `removal_to_json`."""
    return Removal(**{**kept, "unit": tuple(ResidualBlock(*block) for block in kept["unit"])})

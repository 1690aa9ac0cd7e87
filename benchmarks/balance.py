"""Tokens on the critical path of lock-step training, balanced over random micro-batches.

Usage: python -m benchmarks.balance

A simulation without a model: 8 ranks, 8 micro-batches of 2 prompts per rank and optimizer step.
The k-th micro-batches of all ranks are waited for together, so each round costs what its costliest
micro-batch costs. Cost is the number of tokens that go through the model: with padded rows that of
the padded rectangle, with shared prompts that of prompt and responses. Attention is left out.
"""

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch.utils.data import SequentialSampler

from benchmarks.lengths import KINDS, triple_lengths
from wrpo.training.batches.token_balanced_sampler import BalancedBatchSampler

logger = logging.getLogger(__name__)

RANKS, ACCUMULATION, BATCH_SIZE = 8, 8, 2
PROMPTS, SEED = 6400, 7

Triple = tuple[int, tuple[int, int, int]]
Round = Sequence[Sequence[int]]
"""The prompts of one micro-batch on each rank."""


class LockStep(NamedTuple):
    """What an epoch costs when the ranks wait for each other after every micro-batch.

    critical_path: sum over rounds of the tokens of the costliest micro-batch.
    waiting: share of the time in which a rank waits, 1 - mean / maximum over the ranks.
    largest: tokens of the largest micro-batch, which decides the memory needed.
    """

    critical_path: int
    waiting: float
    largest: int


def padded(triples: Sequence[Triple]) -> int:
    """Tokens of a micro-batch of padded rows, one for each response."""
    return 3 * len(triples) * max(prompt + max(responses) for prompt, responses in triples)


def shared(triples: Sequence[Triple]) -> int:
    """Tokens of a micro-batch in which the responses of a triple share its prompt."""
    return sum(prompt + sum(responses) for prompt, responses in triples)


def random_rounds(triples: Sequence[Triple]) -> list[Round]:
    """Rounds of equal numbers of prompts; the triples are in random order already."""
    micro_batches = [
        range(i, min(i + BATCH_SIZE, len(triples))) for i in range(0, len(triples), BATCH_SIZE)
    ]
    return [micro_batches[i : i + RANKS] for i in range(0, len(micro_batches), RANKS)]


def balanced_rounds(triples: Sequence[Triple]) -> list[Round]:
    """Rounds as the trainer's sampler gives them to the ranks."""
    costs = [shared([triple]) for triple in triples]
    samplers = (
        BalancedBatchSampler(
            SequentialSampler(costs),
            costs,
            batch_size=BATCH_SIZE,
            ranks=RANKS,
            rank=rank,
            accumulation=ACCUMULATION,
        )
        for rank in range(RANKS)
    )
    return list(zip(*samplers, strict=True))


def lock_step(
    triples: Sequence[Triple], rounds: Sequence[Round], tokens: Callable[[Sequence[Triple]], int]
) -> LockStep:
    """The cost of these rounds, counted with `tokens`."""
    costs = [[tokens([triples[i] for i in batch]) for batch in one] for one in rounds]
    critical_path = sum(max(one) for one in costs)
    work = sum(sum(one) for one in costs)
    return LockStep(critical_path, 1 - work / (RANKS * critical_path), max(map(max, costs)))


def simulate(kind: str) -> dict[str, LockStep]:
    """Every layout with random and with balanced micro-batches, on one kind of data set."""
    triples = triple_lengths(kind, PROMPTS, SEED)
    arrangements = {"random": random_rounds(triples), "balanced": balanced_rounds(triples)}
    return {
        f"{layout.__name__}, {name}": lock_step(triples, rounds, layout)
        for layout in (padded, shared)
        for name, rounds in arrangements.items()
    }


def main() -> None:
    # Imports of the training stack have set handlers of their own.
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    argparse.ArgumentParser(description="balanced over random micro-batches").parse_args()
    for kind in KINDS:
        results = simulate(kind)
        base = results["padded, random"].critical_path
        logger.info("%s", kind)
        for name, result in results.items():
            logger.info(
                "  %-16s waiting %4.1f %%   critical path %8d tokens = 1 / %.2f   largest %5d",
                name,
                100 * result.waiting,
                result.critical_path,
                base / result.critical_path,
                result.largest,
            )


if __name__ == "__main__":
    main()

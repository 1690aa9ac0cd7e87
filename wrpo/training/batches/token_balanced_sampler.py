"""Micro-batches of equal cost instead of equal numbers of prompts.

Prompts differ in length, and ranks that train in lock-step wait for the longest micro-batch of each
round. Which prompts an optimizer step holds stays what the seeded random sampler says; only their
distribution over ranks and micro-batches changes, so the weights follow the same path to rounding
wherever the loss is a mean over the prompts of the step.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from typing import Any

from accelerate import Accelerator
from torch.utils.data import RandomSampler, Sampler
from transformers.trainer_pt_utils import BatchRebalanceSampler

from wrpo.config import WRPOConfig


def balanced(costs: Sequence[float], buckets: int) -> list[list[int]]:
    """Places of `costs` in `buckets` lists of about equal cost, the costliest list first.

    Longest processing time first (Graham 1969): each item goes to the list with the smallest cost
    so far, the costliest items first. The costliest list costs at most 4/3 of what is possible. No
    list is empty unless there are fewer items than lists; costs must not be negative.

    >>> balanced([5, 1, 2, 4], buckets=2)
    [[0, 1], [3, 2]]
    """
    lists: list[list[int]] = [[] for _ in range(buckets)]
    heap = [(0.0, 0, i) for i in range(buckets)]  # cost, items, list
    for place in sorted(range(len(costs)), key=lambda place: -costs[place]):
        cost, items, i = heap[0]
        lists[i].append(place)
        heapq.heapreplace(heap, (cost + costs[place], items + 1, i))
    return [lists[i] for _, _, i in sorted(heap, key=lambda entry: -entry[0])]


class BalancedBatchSampler(BatchRebalanceSampler):
    """The micro-batches of one rank; those of the same round cost about the same on all ranks.

    sampler: the order of the rows. Optimizer steps are consecutive runs of it, as without
        balancing. accelerate seeds `sampler.sampler`, sets its epoch and skips batches on resume.
    costs: cost of each row, not negative.
    batch_size: mean number of rows per micro-batch.
    ranks, rank: number of processes, and the one this sampler serves.
    accumulation: rounds per optimizer step.
    drop_last: drop what does not fill a round of `batch_size` rows on every rank.

    All ranks yield the same number of micro-batches. The last optimizer step of an epoch has the
    rows that are left, in fewer rounds if they are few. If it has fewer rows than there are ranks,
    rows from the start of the epoch fill it up, one per rank.

    transformers makes an instance of this parent the batch sampler of its data loader, and keeps
    accelerate from dividing the micro-batches among the ranks again; nothing else is inherited.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        costs: Sequence[float],
        *,
        batch_size: int,
        ranks: int = 1,
        rank: int = 0,
        accumulation: int = 1,
        drop_last: bool = False,
    ) -> None:
        self.sampler = sampler
        self.costs = costs
        self.round_rows = batch_size * ranks
        self.step_rows = self.round_rows * accumulation
        self.ranks, self.rank = ranks, rank
        self.drop_last = drop_last

    def __len__(self) -> int:
        return sum(self._rounds(rows) for rows in self._step_sizes())

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.sampler)
        start = 0
        for rows in self._step_sizes():
            step = order[start : start + rows]
            start += rows
            step += islice(cycle(order), max(0, self.ranks - rows))
            yield from self._own(step, self._rounds(rows))

    def _step_sizes(self) -> list[int]:
        """Rows of each optimizer step of an epoch."""
        steps, rest = divmod(len(self.costs), self.step_rows)
        if self.drop_last:
            rest -= rest % self.round_rows
        return [self.step_rows] * steps + [rest] * (rest > 0)

    def _rounds(self, rows: int) -> int:
        """As many as without balancing, but never more than the rows fill on every rank."""
        return max(1, min(-(-rows // self.round_rows), rows // self.ranks))

    def _own(self, step: list[int], rounds: int) -> Iterator[list[int]]:
        buckets = balanced([self.costs[row] for row in step], self.ranks * rounds)
        for i in range(rounds):
            of_round = buckets[i * self.ranks : (i + 1) * self.ranks]
            # Alternating directions, so that no rank has the costliest bucket of every round.
            own = of_round[self.rank if i % 2 == 0 else ~self.rank]
            yield [step[place] for place in own]


def balance_micro_batches(
    sampler: Any, dataset: Any, *, args: WRPOConfig, batch_size: int, accelerator: Accelerator
) -> Any:
    """The rows of `sampler` in balanced micro-batches, or `sampler` itself.

    It stays as it is with `balance_micro_batches: false`, for streamed data sets, for another
    `train_sampling_strategy` than "random", and with split_batches, where accelerate divides the
    rows of a batch among the ranks. The cost of a row is its `length`: prompt and responses.
    """
    divided = args.accelerator_config.split_batches
    if not args.balance_micro_batches or divided or not isinstance(sampler, RandomSampler):
        return sampler
    return BalancedBatchSampler(
        sampler,
        dataset["length"][:],
        batch_size=batch_size,
        ranks=accelerator.num_processes,
        rank=accelerator.process_index,
        accumulation=args.gradient_accumulation_steps,
        drop_last=args.dataloader_drop_last,
    )


def batches_by_length(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Places of rows in ascending length, cut where a padded batch would exceed `budget` tokens.

    A row longer than the budget makes a batch of its own.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batches and lengths[place] * (len(batches[-1]) + 1) <= budget:
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches

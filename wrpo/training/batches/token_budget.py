"""How many tokens one forward pass takes: a fixed number, or as many as fit into a GPU's memory.

On a GPU the first optimizer step runs in small micro-batches. From what they needed, from what the
weights and the optimizer hold afterwards, and from what the GPU has, follows the budget of the next
step, which is measured again, three times in all. Nothing is computed twice for this, and nothing
is guessed about models, adapters, sharding or checkpointing. Passes without gradients, as for
log-probs and scores, measure their first batches instead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TypeVar

import torch

from wrpo.training.settings import AUTO, CPU_TOKENS, MOST_TOKENS, PLANNED_SHARE

logger = logging.getLogger(__name__)

Batched = TypeVar("Batched")
Computed = TypeVar("Computed")

_FIRST_TOKENS = 4096
_MEASURED_STEPS = 3
_GROWTH = 8


class Meter(Protocol):
    """Memory of one device, in bytes."""

    def held(self) -> int:
        """By tensors, now."""

    def peak(self) -> int:
        """Most that was held since the last `reset`."""

    def reset(self) -> None: ...

    def room(self) -> int:
        """What this process could hold at most."""


class GPUMeter:
    """Memory of the current GPU as torch counts it."""

    def held(self) -> int:
        return int(torch.cuda.memory_allocated())

    def peak(self) -> int:
        return int(torch.cuda.max_memory_allocated())

    def reset(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def room(self) -> int:
        free, _ = torch.cuda.mem_get_info()
        return int(free + torch.cuda.memory_reserved())


class Need(NamedTuple):
    """Tokens of a micro-batch, and the bytes that it took beside what was held before."""

    tokens: int
    bytes: int


class TokenBudget:
    """Most tokens of one forward pass.

    Args:
        asked: the number, or "auto".
        longest: tokens of the longest row, which any budget must hold.
        meter: memory of the device; None where it is not measured.
        share: of the memory that may be planned with.

    Attributes:
        tokens: the budget now.
    """

    def __init__(
        self,
        asked: int | str,
        *,
        longest: int,
        meter: Meter | None,
        share: float = PLANNED_SHARE,
    ) -> None:
        self._longest, self._share, self._halved = longest, share, False
        self._meter = meter if asked == AUTO else None
        start = _FIRST_TOKENS if meter else CPU_TOKENS
        self.tokens = max(longest, start) if asked == AUTO else int(asked)
        self._left = _MEASURED_STEPS if self._meter else 0
        self._needs: list[Need] = []
        self._gradients = 0
        self._before_step = 0

    @property
    def measures(self) -> bool:
        """Whether the coming step is still measured."""
        return self._left > 0

    @property
    def noted(self) -> bool:
        """Whether a step has been measured since the budget was settled."""
        return bool(self._needs)

    def begin_step(self) -> None:
        """Called before the first micro-batch of an optimizer step."""
        if self._meter and self.measures:
            self._before_step = self._meter.held()

    @contextmanager
    def micro_batch(self, tokens: int) -> Iterator[None]:
        """Notes what a micro-batch of so many tokens needs, its backward pass included."""
        if self._meter is None or not self.measures:
            yield
            return
        before = self._meter.held()
        self._meter.reset()
        yield
        self._needs.append(Need(tokens, self._meter.peak() - before))

    def end_step(self) -> None:
        """Called after the last micro-batch, before the optimizer."""
        if self._meter and self.measures:
            self._gradients = max(self._gradients, self._meter.held() - self._before_step)

    def refit(self) -> int:
        """What fits, by the step before; called when its optimizer has run. Changes nothing."""
        if self._meter is None or not self._needs:
            return self.tokens
        # The first pass also allocates the gradients, which are then there.
        first, *others = self._needs
        needs = others or [first._replace(bytes=max(1, first.bytes - self._gradients))]
        each = max(need.bytes / need.tokens for need in needs)
        usable = self._share * self._meter.room() - self._meter.held() - self._gradients
        fits = int(usable / max(each, 1e-9))
        return max(self._longest, min(fits, _GROWTH * self.tokens, MOST_TOKENS))

    def settle(self, tokens: int) -> None:
        """Takes what fits on all processes as the budget of the next step."""
        self._left -= 1
        self._needs = []
        self.tokens = tokens

    def settle_by_batch(self) -> None:
        """After a batch without gradients: takes what fits by that.

        A batch that leaves half of the budget empty says little of full ones and is not counted.
        """
        if self.measures and self._needs and 2 * self._needs[-1].tokens >= self.tokens:
            self.settle(self.refit())
            if self._left == 0:
                logger.info("batches of at most %s tokens, as measured", f"{self.tokens:,}")
        self._needs = []

    @property
    def can_halve(self) -> bool:
        """Whether an out-of-memory error leaves another chance, which it does once."""
        return not self._halved and self.tokens > 1

    def too_large(self, why: str) -> str:
        """What to do after an out-of-memory error that leaves no other chance; `why` is that so."""
        what = f"out of memory with micro-batches of at most {self.tokens:,} tokens, and {why}. "
        smaller = (
            f"Set engine.batch_tokens of this stage to {max(1, self.tokens // 2)} "
            "(micro_batch_tokens in Python), which changes the weights by rounding only, or"
            if self.tokens > self._longest
            else f"The longest row has {self._longest:,} of them: lower truncation.max_length, or"
        )
        rest = "set gradient_checkpointing: true, train adapters (lora), or use more GPUs"
        return f"{what}{smaller} {rest}. Training goes on from its last checkpoint"

    def halve(self) -> bool:
        """After an out-of-memory error; whether there is another chance."""
        if not self.can_halve:
            return False
        self._halved, self._left, self._needs = True, 0, []
        self.tokens //= 2
        logger.warning(
            "out of memory: batches now have at most %s tokens, and what did not fit is computed "
            "again. Write the number as engine.batch_tokens to start with it",
            f"{self.tokens:,}",
        )
        return True


def batches_that_fit(
    items: Sequence[Batched],
    budget: TokenBudget,
    *,
    plan: Callable[[Sequence[Batched], int], list[list[int]]],
    compute: Callable[[list[Batched]], Computed],
) -> Iterator[tuple[list[int], Computed]]:
    """Places of items and what was computed of them, batch by batch; again in halves after an
    out-of-memory error.

    plan: places of items in batches of so many tokens.
    compute: without gradients, and inside `budget.micro_batch` if batches are to grow to what fits.
    """
    batches = plan(items, budget.tokens)
    while batches:
        places, before = batches.pop(0), budget.tokens
        fitted = True
        try:
            result = compute([items[place] for place in places])
        except torch.OutOfMemoryError:
            fitted = False
            if not budget.halve():
                raise
        if fitted:
            yield places, result
            budget.settle_by_batch()
        elif torch.cuda.is_available():
            torch.cuda.empty_cache()
        if budget.tokens == before:
            continue
        waiting = batches if fitted else [places, *batches]
        left = [place for batch in waiting for place in batch]
        planned = plan([items[place] for place in left], budget.tokens)
        batches = [[left[i] for i in batch] for batch in planned]


def meter_of(device: torch.device) -> Meter | None:
    """Where the memory of a device is read; None where it is not."""
    return GPUMeter() if device.type == "cuda" else None

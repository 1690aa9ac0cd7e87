"""Trainers whose micro-batches are cut by tokens: any budget gives the same optimizer steps.

The data loader hands out the rows of whole optimizer steps, the same to every process. Each process
cuts the step alike, takes its share, and collates that. So the global batch in rows is kept
exactly, all processes have the same number of micro-batches, and a step that did not fit can be cut
again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate.logging import get_logger
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer
from transformers.trainer_pt_utils import BatchRebalanceSampler

from wrpo.errors import RecipeError
from wrpo.training.batches.agreement import Agreement, OutOfMemoryElsewhere
from wrpo.training.batches.token_balanced_sampler import balanced, batches_by_length
from wrpo.training.batches.token_budget import TokenBudget, meter_of
from wrpo.training.settings import CAREFUL_SHARE, PLANNED_SHARE

logger = get_logger(__name__)


class StepRows:
    """The rows of an optimizer step, closed to what moves, pins or pads batches on the way.

    Attributes:
        rows: of all processes.
        batches: collated micro-batches of this process, once they are cut.
        tokens: of each of them.
    """

    def __init__(self, rows: Sequence[Any]) -> None:
        self.rows = rows
        self.batches: list[dict[str, Any]] = []
        self.tokens: list[int] = []


class WholeSteps(BatchRebalanceSampler):
    """The row numbers of one optimizer step after the other, the same for every process.

    transformers makes an instance of this parent the batch sampler of its data loader, and keeps
    accelerate from dividing the batches among the processes; nothing else is inherited.

    sampler: the order of the rows. accelerate seeds `sampler.sampler`, sets its epoch and skips
        batches on resume.
    ranks: rows that a step has at least; rows from the start of the epoch fill up the last one.
    """

    def __init__(
        self, sampler: Sampler[int], count: int, *, rows: int, ranks: int, drop_last: bool
    ) -> None:
        self.sampler, self._count, self._rows, self._ranks = sampler, count, rows, ranks
        self.drop_last = drop_last

    def __len__(self) -> int:
        return self._count // self._rows if self.drop_last else -(-self._count // self._rows)

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.sampler)
        for i in range(len(self)):
            step = order[i * self._rows : (i + 1) * self._rows]
            yield step + list(islice(cycle(order), max(0, self._ranks - len(step))))


class Costs(NamedTuple):
    """What rows take in a batch, in tokens.

    Attributes:
        rows: of each row by itself.
        padded: whether a batch takes its longest row for each of its rows, or the sum of all.
    """

    rows: list[int]
    padded: bool

    def of(self, places: Sequence[int]) -> int:
        """Tokens of a batch of the rows at these places."""
        costs = [self.rows[place] for place in places]
        return len(costs) * max(costs) if self.padded else sum(costs)


def micro_batches(costs: Costs, budget: int, *, ranks: int) -> list[list[int]]:
    """Places of rows in micro-batches of about equal cost, as many for every process.

    No batch exceeds the budget, except one of a single row, and where there are too few rows to
    give every process one more batch. The costliest come first; `ranks` neighbours are one round.

    >>> micro_batches(Costs([5, 1, 2, 4], padded=False), 8, ranks=1)
    [[0, 1], [3, 2]]
    >>> micro_batches(Costs([5, 1, 2, 4], padded=True), 8, ranks=1)
    [[0], [3, 2], [1]]
    """
    most = len(costs.rows) // ranks
    rounds = min(most, max(1, -(-sum(costs.rows) // (budget * ranks))))
    while True:
        count = rounds * ranks
        lists = _by_width(costs.rows, count) if costs.padded else balanced(costs.rows, count)
        if rounds == most or all(len(x) == 1 or costs.of(x) <= budget for x in lists):
            return lists
        rounds += 1


def _by_width(widths: Sequence[int], count: int) -> list[list[int]]:
    """Rows of neighbouring widths in exactly `count` batches; the least padded tokens of the
    largest."""
    low, high = max(widths), max(widths) * len(widths)
    while low < high:
        middle = (low + high) // 2
        if len(batches_by_length(widths, middle)) <= count:
            high = middle
        else:
            low = middle + 1
    batches = batches_by_length(widths, low)
    while len(batches) < count:
        place = max(range(len(batches)), key=lambda i: len(batches[i]))
        largest = batches[place]
        half = len(largest) // 2
        batches[place : place + 1] = [largest[:half], largest[half:]]
    return [batch[::-1] for batch in reversed(batches)]


def take_whole_steps(args: Any) -> None:
    """Settles before the trainer is made that its batches are whole optimizer steps.

    The rows of a step stay what batch size and accumulation say.
    """
    args.per_device_train_batch_size *= args.gradient_accumulation_steps
    args.gradient_accumulation_steps = 1


class MicroBatches(Trainer):
    """Mixed into a trainer class; does nothing until `budget_tokens` is set before its constructor.

    Subclasses say what rows cost, and how what a step `recorded` for the log is forgotten when it
    is computed again.

    Attributes:
        budget_tokens: "auto", or most tokens of a forward pass; None leaves batches as they are.
        budget: made with the data loader.
    """

    budget_tokens: int | str | None = None
    budget: TokenBudget | None = None
    data_collator: Any
    _flops = 0.0

    if TYPE_CHECKING:

        def recorded(self) -> Any: ...

        def restore(self, recorded: Any) -> None: ...

    def row_costs(self, rows: Sequence[Any]) -> Costs:
        """Tokens of these rows, as they are collated."""
        raise NotImplementedError

    def longest_row(self) -> int:
        """Most tokens of a row of the training set."""
        raise NotImplementedError

    def get_train_dataloader(self) -> Any:
        if self.budget_tokens is None:
            return super().get_train_dataloader()
        if not hasattr(self.train_dataset, "__len__"):
            raise RecipeError(
                "micro_batch_tokens is set, and the training set is streamed; leave it out, or "
                "load the set whole"
            )
        if self.budget is None:
            meter = meter_of(self.accelerator.device)
            longest = self.longest_row()
            share = PLANNED_SHARE if self._agreement.possible else CAREFUL_SHARE
            self.budget = TokenBudget(self.budget_tokens, longest=longest, meter=meter, share=share)
            logger.info(f"micro-batches of at most {self.budget.tokens:,} tokens")
        own, self.data_collator = self.data_collator, StepRows
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = own

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(train_dataset)
        if self.budget_tokens is None:
            return sampler
        if isinstance(sampler, BatchRebalanceSampler) or self.args.accelerator_config.split_batches:
            raise RecipeError(
                "micro_batch_tokens is set beside train_sampling_strategy batch_rebalance or "
                "split_batches, which divide rows too; leave one of them out"
            )
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        ranks = self.accelerator.num_processes
        return WholeSteps(
            sampler,
            len(dataset),
            rows=self._train_batch_size * ranks,
            ranks=ranks,
            drop_last=self.args.dataloader_drop_last,
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """The rows of the next optimizer step, cut, and the number of its items."""
        if self.budget is None:
            return super().get_batch_samples(epoch_iterator, num_batches, device)
        step = next(epoch_iterator, None)
        if step is None:
            return [], None
        if self.budget.measures:
            self._settle_budget(self.budget)
        self._cut(step)
        return [step], self._get_num_items_in_batch(step.batches, device)

    def _settle_budget(self, budget: TokenBudget) -> None:
        """What fits on every process; before the first step there is nothing to go by."""
        if not budget.noted:
            return
        fits = torch.tensor([budget.refit()], device=self.accelerator.device)
        budget.settle(int(self.accelerator.gather(fits).min()))
        if not budget.measures:
            logger.info(f"micro-batches of at most {budget.tokens:,} tokens, as measured")

    def _cut(self, step: StepRows) -> None:
        """Collates the micro-batches of this process."""
        assert self.budget is not None
        costs, ranks = self.row_costs(step.rows), self.accelerator.num_processes
        lists = micro_batches(costs, self.budget.tokens, ranks=ranks)
        own = []
        for i in range(0, len(lists), ranks):
            # Alternating directions, so that no rank has the costliest batch of every round.
            rank = self.accelerator.process_index
            own.append(lists[i : i + ranks][rank if i // ranks % 2 == 0 else ~rank])
        collate: Any = self.data_collator
        step.batches = [collate([step.rows[place] for place in places]) for places in own]
        step.tokens = [costs.of(places) for places in own]

    def training_step(
        self, model: nn.Module, inputs: Any, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Loss of a micro-batch, or the sum over those of a whole step, scaled alike."""
        if not isinstance(inputs, StepRows):
            return super().training_step(model, inputs, num_items_in_batch)
        loss = self._try_step(model, inputs, num_items_in_batch)
        if loss is None:
            model.zero_grad()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._cut(inputs)
            loss = self._last_try(model, inputs, num_items_in_batch)
        return loss

    @cached_property
    def _agreement(self) -> Agreement:
        return Agreement(self.accelerator)

    def _try_step(self, model: nn.Module, step: StepRows, items: Any) -> Tensor | None:
        """None where it did not fit on some process and all may try again."""
        budget, agreement = self.budget, self._agreement
        assert budget is not None
        if not (agreement.possible and budget.can_halve):
            return self._last_try(model, step, items)
        before = self.recorded()
        try:
            loss = self._step(model, step, items, agreement)
            agreement.vote(failed=False)
            agreement.average_gradients(model)
            return loss
        except OutOfMemoryElsewhere:
            budget.halve()
        except torch.OutOfMemoryError:
            agreement.vote(failed=True)
            budget.halve()
        self.restore(before)
        return None

    def _last_try(self, model: nn.Module, step: StepRows, items: Any) -> Tensor:
        try:
            return self._step(model, step, items)
        except torch.OutOfMemoryError as error:
            assert self.budget is not None
            why = self._agreement.why_not or "half of the budget was too much too"
            raise RecipeError(self.budget.too_large(why)) from error

    def _step(
        self, model: nn.Module, step: StepRows, items: Any, agreement: Agreement | None = None
    ) -> Tensor:
        """Computes and accumulates gradients; those of all processes meet in the last micro-batch.

        agreement: leaves it to the caller to bring them together, once all have theirs.
        """
        budget, state = self.budget, self.accelerator.gradient_state
        assert budget is not None
        last = len(step.batches) - 1
        self.current_gradient_accumulation_steps = len(step.batches)
        self._flops = 0.0
        losses = []
        budget.begin_step()
        for i, (batch, tokens) in enumerate(zip(step.batches, step.tokens, strict=True)):
            state._set_sync_gradients(i == last)
            alone = self._alone(model) if agreement or i < last else contextlib.nullcontext()
            votes = agreement.before_gathering() if agreement else contextlib.nullcontext()
            with alone, votes, budget.micro_batch(tokens):
                losses.append(super().training_step(model, dict(batch), items))
            self._flops += super().floating_point_ops(batch)
        budget.end_step()
        return torch.stack(losses).sum()

    def _alone(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Gradients stay with their process, under the conditions that transformers has for it."""
        kind, options = self.accelerator.distributed_type, self.accelerator.gradient_state
        together = options.plugin_kwargs.get("sync_each_batch", False)
        if together or kind == DistributedType.DEEPSPEED:
            return contextlib.nullcontext()
        alone: contextlib.AbstractContextManager[None] = self.accelerator.no_sync(model)
        return alone

    def _track_num_input_tokens(self, inputs: Any) -> None:
        for batch in inputs.batches if isinstance(inputs, StepRows) else [inputs]:
            super()._track_num_input_tokens(batch)

    def floating_point_ops(self, inputs: Any) -> float:
        """Operations of a batch, or of the step that was just computed."""
        if isinstance(inputs, StepRows):
            return self._flops
        return float(super().floating_point_ops(inputs))

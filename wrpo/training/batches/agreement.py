"""Processes that train together learn that one of them is out of memory before they meet.

A process that fails inside a step would leave the others waiting where all of them meet: in the
reduction of gradients, or where a trainer gathers figures. So each meeting of a step begins with a
vote, and the process that fails votes instead of coming to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn


class OutOfMemoryElsewhere(torch.OutOfMemoryError):
    """Another process is out of memory; this one gives the step up too."""


class Agreement:
    """The votes of the steps of one trainer.

    Attributes:
        possible: whether processes meet only where they can vote before: one process by itself, or
            replicas (DDP) that meet once a step. Sharded weights (FSDP, DeepSpeed) do in every
            layer.
        several: whether there are others to agree with.
        why_not: what keeps a step from being computed again, in words; empty where it can be.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        kind = accelerator.distributed_type
        self._accelerator = accelerator
        self.several = kind != DistributedType.NO
        every = accelerator.gradient_state.plugin_kwargs.get("sync_each_batch", False)
        self.possible = not self.several or (kind.name.startswith("MULTI_") and not every)
        self.why_not = ""
        if not self.possible:
            meet = "sync_each_batch is on" if every else f"weights are sharded ({kind.name})"
            self.why_not = f"{meet}, so that no process can compute the step again by itself"

    def vote(self, *, failed: bool) -> None:
        """One meeting; all processes have to come.

        Raises:
            OutOfMemoryElsewhere: another process failed, and this one did not.
        """
        if not self.several:
            return
        votes = torch.tensor(int(failed), device=self._accelerator.device)
        if bool(self._accelerator.reduce(votes, "sum") > 0) and not failed:
            raise OutOfMemoryElsewhere("another process is out of memory")

    @contextmanager
    def before_gathering(self) -> Iterator[None]:
        """Within it, the first figures that a forward pass gathers are voted on."""
        if not self.several:
            yield
            return
        accelerator: Any = self._accelerator
        gather, voted = accelerator.gather, False

        def gather_together(*arguments: Any, **options: Any) -> Any:
            nonlocal voted
            if not voted:
                self.vote(failed=False)
            voted = True
            return gather(*arguments, **options)

        accelerator.gather = gather_together
        try:
            yield
        finally:
            del accelerator.gather

    def average_gradients(self, model: nn.Module) -> None:
        """What DDP does during the last backward pass, after it: means over all processes."""
        if not self.several:
            return
        trained = [p for p in model.parameters() if p.requires_grad]
        for parameter in trained:
            if parameter.grad is None:  # others may have one
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in trained if p.grad is not None]
        waiting = [torch.distributed.all_reduce(x, async_op=True) for x in gradients]
        for work in waiting:
            work.wait()
        torch._foreach_div_(gradients, float(self._accelerator.num_processes))

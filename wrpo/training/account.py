"""What training a model took: tokens through the policy, and the most memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from wrpo.training.micro_batches import StepRows

_MIB = 1 << 20


class Account:
    """Counts while a trainer trains; make it before."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        # Tensors once there are some: to read a count at every step would make a GPU wait.
        self._tokens: int | Tensor = 0
        self._sampled: int | Tensor = 0
        self._first_step: int | None = None
        step = trainer.training_step

        def counting(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
            if self._first_step is None:
                self._first_step = trainer.state.global_step
            before = inputs.get("input_ids") if isinstance(inputs, Mapping) else None
            loss = step(model, inputs, *args, **kwargs)
            # Trainers that sample put what they sampled in place of what they were given.
            self._tokens = self._tokens + tokens_of(inputs)
            if before is not None and inputs["input_ids"] is not before and "labels" in inputs:
                self._sampled = self._sampled + (inputs["labels"] != -100).sum()
            return loss

        trainer.training_step = counting
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def facts(self) -> dict[str, Any]:
        """For the manifest; every process must call it.

        Returns:
            trained_tokens: without padding, over all ranks and steps since this start;
            sampled_tokens: of those, sampled while training, where there are any;
            counted_from_step: of this start, where it resumed; peak_memory_mib, and of what:
            a GPU (allocated by torch), or this process.
        """
        tokens = self._over_ranks(self._tokens)
        if not tokens:  # TRL's own count, of trainers that make their batches themselves
            tokens = int(self._trainer.state.num_input_tokens_seen)
        facts: dict[str, Any] = {"trained_tokens": tokens}
        if sampled := self._over_ranks(self._sampled):
            facts["sampled_tokens"] = sampled
        if self._first_step:
            facts["counted_from_step"] = self._first_step
        on_gpu = torch.cuda.is_available()
        most = torch.cuda.max_memory_allocated() if on_gpu else _resident_bytes()
        return facts | {
            "peak_memory_mib": round(most / _MIB),
            "peak_memory_of": "GPU" if on_gpu else "process",
        }

    def _over_ranks(self, counted: int | Tensor) -> int:
        count = int(counted)
        accelerator = self._trainer.accelerator
        if accelerator.num_processes == 1:
            return count
        own = torch.tensor([count], dtype=torch.long, device=accelerator.device)
        return int(accelerator.gather(own).sum())


def tokens_of(inputs: Any) -> int | Tensor:
    """Tokens of a batch, or of all that a step was cut into; 0 where it has none.

    Padding is left out where a batch says what it is.
    """
    if isinstance(inputs, StepRows):
        return sum(tokens_of(batch) for batch in inputs.batches)
    if not isinstance(inputs, Mapping) or "input_ids" not in inputs:
        return 0
    mask = inputs.get("attention_mask")
    if isinstance(mask, Tensor) and mask.shape == inputs["input_ids"].shape:
        return mask.sum()
    return int(inputs["input_ids"].numel())


def _resident_bytes() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024

"""What training a model took: tokens through the policy, and the most memory."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

_MIB = 1 << 20


class Account:
    """Counts while a trainer trains; make it before.

    What a model forwards is what `compute_loss` gets: some trainers put what they sampled in place
    of the batch that a step was given.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        # Tensors once there are some: to read a count at every step would make a GPU wait.
        self._tokens: int | Tensor = 0
        self._sampled: int | Tensor = 0
        self._first_step: int | None = None
        self._given: Any = None
        step, loss_of = trainer.training_step, trainer.compute_loss

        def stepping(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
            if self._first_step is None:
                self._first_step = trainer.state.global_step
            self._given = inputs.get("input_ids") if isinstance(inputs, Mapping) else None
            return step(model, inputs, *args, **kwargs)

        def counting(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self._tokens = self._tokens + tokens_of(inputs)
            if self._given is not None and "labels" in inputs:
                said = (inputs["labels"] != -100).sum()
                self._sampled = self._sampled + said * self._is_sampled(inputs["input_ids"])
            return loss_of(model, inputs, *args, **kwargs)

        trainer.training_step = stepping
        trainer.compute_loss = counting
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def _is_sampled(self, used: Tensor) -> bool | Tensor:
        """Whether the trainer put other tokens in place of those that it was given."""
        flags = getattr(self._trainer, "_buffered_on_policy", None)
        if flags:  # GOLD, which cuts what it is given into slices and numbers them beforehand
            return bool(flags[(self._trainer._step - 1) % len(flags)])
        if used.shape != self._given.shape:
            return True
        return (used != self._given.to(used.device)).any()

    def facts(self) -> dict[str, Any]:
        """For the manifest; every process must call it.

        Returns:
            trained_tokens: without padding, over all ranks and steps since this start;
            sampled_tokens: of those, sampled while training, where there are any;
            reward_tokens: that networks of rewards forwarded while training, where there are any;
            counted_from_step: of this start, where it resumed; peak_memory_mib, and of what:
            a GPU (allocated by torch), or this process.
        """
        tokens = self._over_ranks(self._tokens)
        if not tokens:  # TRL's own count, of trainers that make their batches themselves
            tokens = int(self._trainer.state.num_input_tokens_seen)
        facts: dict[str, Any] = {"trained_tokens": tokens}
        if sampled := self._over_ranks(self._sampled):
            facts["sampled_tokens"] = sampled
        rewards = getattr(self._trainer, "reward_funcs", None) or ()
        forwarded = sum(getattr(one, "forwarded_tokens", 0) for one in rewards)
        if rewarded := self._over_ranks(forwarded):
            facts["reward_tokens"] = rewarded
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
    """Tokens of a batch, padding left out where the batch says what it is; 0 where it has none."""
    if not isinstance(inputs, Mapping) or "input_ids" not in inputs:
        return 0
    mask = inputs.get("attention_mask")
    if isinstance(mask, Tensor) and mask.shape == inputs["input_ids"].shape:
        return mask.sum()
    return int(inputs["input_ids"].numel())


def _resident_bytes() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024

"""SIGTERM while training: a checkpoint at the end of the step, then the command ends."""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl

logger = logging.getLogger(__name__)


class StopsAtSigterm(TrainerCallback):
    """Saves and stops once any rank has got SIGTERM; all ranks do so after the same step.

    transformers' own `enable_jit_checkpoint` waits three seconds, does not ask the other ranks, and
    lets training return as if it were done.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.stopped = False
        self._trainer = trainer
        self._asked = False
        self._before: Any = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._before = signal.signal(signal.SIGTERM, self._ask)

    def on_step_end(self, _: Any, __: Any, control: TrainerControl, **___: Any) -> None:
        if self._any_rank_asked():
            logger.info("SIGTERM: saving a checkpoint after this step")
            self.stopped = True
            control.should_save = control.should_training_stop = True

    def on_train_end(self, *_: Any, **__: Any) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def _any_rank_asked(self) -> bool:
        accelerator = self._trainer.accelerator
        if accelerator.num_processes == 1:
            return self._asked
        asked = torch.tensor(float(self._asked), device=accelerator.device)
        return bool(accelerator.reduce(asked, reduction="sum") > 0)

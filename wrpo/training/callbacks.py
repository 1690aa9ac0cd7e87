"""What a stage does while its trainer runs: the metrics file, and a checkpoint at SIGTERM."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from wrpo.pipeline.metrics_file import append_metrics

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


class MetricsFile(TrainerCallback):
    """Appends every log of the main process to one file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.is_world_process_zero and logs:
            append_metrics(self.path, step=state.global_step, max_steps=state.max_steps, logs=logs)

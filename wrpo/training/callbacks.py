"""What a stage does while its trainer runs: metrics file, checkpoint at SIGTERM, finite losses."""

from __future__ import annotations

import logging
import math
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from wrpo.errors import ModelError
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


class FiniteLoss(TrainerCallback):
    """Stops training whose loss is no finite number: later steps would spoil the model more.

    transformers' log leaves such losses out (`logging_nan_inf_filter`), so that nothing shows them.
    Every micro-batch is watched; add it last, as it asks what others have decided. It looks where
    the run logs, saves or ends: to look at every step would make a GPU wait.

    Args:
        where: key of the recipe that the message names, e.g. "sft.train".
    """

    def __init__(self, trainer: Trainer, *, where: str) -> None:
        self._trainer = trainer
        self._where = where
        self._found: Tensor | None = None  # (step, loss) of the first one, step inf: none
        step = trainer.training_step

        def watching(*args: Any, **kwargs: Any) -> Tensor:
            loss = step(*args, **kwargs)
            self._watch(loss.detach())
            return loss

        trainer.training_step = watching

    def on_step_end(self, _: Any, __: TrainerState, control: TrainerControl, **___: Any) -> None:
        if control.should_log or control.should_save or control.should_training_stop:
            self.require()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.require()

    def require(self) -> None:
        """Stops unless every loss so far was a finite number; every process must call it.

        Raises:
            ModelError: one was not; names the step.
        """
        step, loss = self._first_over_ranks()
        if math.isinf(step):
            return
        self._trainer.log({"loss": loss})  # for those who look at the metrics of the stage
        raise ModelError(
            f"{self._where}: the loss of step {step:.0f} is {loss}, and no step can be taken from "
            "there. Lower learning_rate, warm up longer (warmup_steps), write bf16 in place of "
            "fp16, or start from another model. Checkpoints of earlier steps are kept in "
            f"{self._trainer.args.output_dir}; other settings need the folder of the stage deleted"
        )

    def _watch(self, loss: Tensor) -> None:
        loss = loss.float().mean()
        number = float(self._trainer.state.global_step + 1)
        found = torch.stack([torch.full_like(loss, number), loss])
        if self._found is None:
            self._found = torch.full_like(found, math.inf)
        fine = torch.isfinite(loss) | torch.isfinite(self._found[0])
        self._found = torch.where(fine, self._found, found)

    def _first_over_ranks(self) -> tuple[float, float]:
        accelerator = self._trainer.accelerator
        nothing = torch.full((2,), math.inf, device=accelerator.device)
        found = nothing if self._found is None else self._found.to(accelerator.device)
        if accelerator.num_processes > 1:
            ranks = accelerator.gather(found.unsqueeze(0))
            found = ranks[ranks[:, 0].argmin()]
        step, loss = found.tolist()
        return step, loss

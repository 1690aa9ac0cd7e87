"""Keeps RUN/ARM/metrics.jsonl while a trainer runs, for `python -m wrpo status`."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from wrpo.live_metrics import append_metrics


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

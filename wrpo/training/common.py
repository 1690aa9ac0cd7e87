"""What every training stage shares: batch arithmetic, TRL arguments, models, resume, saving."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrpo.errors import ModelError, RecipeError, loading_failures
from wrpo.pipeline.integrity import MODEL
from wrpo.pipeline.metrics_file import LOG_HISTORY, METRICS
from wrpo.pipeline.parts import StageWork, open_stage
from wrpo.pipeline.pipeline import Pipeline
from wrpo.processes import Terminated
from wrpo.recipe.sampling import Model
from wrpo.training.attention import loaded_with
from wrpo.training.model_card import complete_model_folder
from wrpo.training.saving import save_model
from wrpo.training.settings import AUTO, Lora, Training
from wrpo.training.trackers import tracking_arguments
from wrpo.training.trl_config import require_effect
from wrpo.training.vocabulary import require_embeddings

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import Trainer

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
MANY_PASSES = 20


def accumulation_steps(settings: Training, *, processes: int) -> int:
    """Micro-batches per optimizer step, so that the global batch is what the recipe says.

    One where tokens decide: the trainer then cuts whole optimizer steps by itself.

    Raises:
        RecipeError: the numbers do not divide; shows them.
    """
    rows = rows_per_device(settings, processes=processes)
    if settings.engine.per_device_batch_size == AUTO:
        return 1
    per_step = rows * processes
    steps, rest = divmod(settings.global_batch_size, per_step)
    if rest or not steps:
        raise RecipeError(
            f"global_batch_size={settings.global_batch_size} is not a multiple of "
            f"engine.per_device_batch_size={settings.engine.per_device_batch_size} x "
            f"{processes} processes = {per_step}; change one of them"
        )
    return steps


def rows_per_device(settings: Training, *, processes: int) -> int:
    """Rows of a device: of a forward pass, or of an optimizer step where tokens decide.

    Raises:
        RecipeError: the global batch cannot be divided among the processes.
    """
    rows = settings.engine.per_device_batch_size
    if isinstance(rows, int):
        return rows
    each, rest = divmod(settings.global_batch_size, processes)
    if rest or not each:
        raise RecipeError(
            f"global_batch_size={settings.global_batch_size} is not a multiple of {processes} "
            "processes; change one of them"
        )
    return each


def micro_batch_tokens(settings: Training) -> int | str | None:
    """Most tokens of a forward pass, or auto; None where a number of rows decides."""
    if settings.engine.per_device_batch_size != AUTO:
        return None
    return settings.engine.batch_tokens or AUTO


def trl_arguments(settings: Training, *, seed: int, output: Path) -> dict[str, Any]:
    """Keyword arguments of a TRL config: the recipe's own keys and what the toolkit derives."""
    import torch

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    arguments: dict[str, Any] = {
        "save_total_limit": 2,
        "report_to": "none",
        **settings.train,
        "output_dir": str(output / CHECKPOINTS),
        "seed": seed,
        "per_device_train_batch_size": rows_per_device(settings, processes=processes),
        "gradient_accumulation_steps": accumulation_steps(settings, processes=processes),
    }
    if not torch.cuda.is_available():
        arguments.setdefault("use_cpu", True)
        arguments.setdefault("bf16", False)
    trackers = tracking_arguments(arguments["report_to"], output=output)
    arguments = {**trackers, **arguments}
    logger.info(
        "batch: %d prompts = %d per device x %d processes x %d accumulation steps",
        settings.global_batch_size,
        arguments["per_device_train_batch_size"],
        processes,
        arguments["gradient_accumulation_steps"],
    )
    return arguments


@contextmanager
def open_training(pipeline: Pipeline, stage: str) -> Iterator[StageWork]:
    """Opens a training stage; rank 0 of a distributed run has the lock and completes it.

    Raises:
        StageError: another command works on it, or the folder was made with other settings.
    """
    helper = os.environ.get("RANK", "0") != "0"
    with open_stage(pipeline, stage, helper=helper) as work:
        yield work
        if not (work.complete or helper):
            complete_model_folder(work.path / MODEL, pipeline.recipe, stage, facts=work.facts)


def load_policy(
    model: str, entry: Model, *, attention: str | None = None, quantize: str | None = None
) -> Any:
    """A causal language model in float32 for training; only safetensors are read.

    Its attention leaves no term of the model out (`wrpo.prefix.left_out`).

    quantize: "nf4" or "int8" for weights that only adapters are trained on.

    Raises:
        ModelError: it cannot be loaded.
        RecipeError: its weights are to be quantised and sharded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from wrpo.prefix.left_out import complete_attention
    from wrpo.pruning.blocks import freeze_removed
    from wrpo.training.saving import quantization_config

    quantized = quantization_config(quantize)
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            model,
            revision=entry.revision if model == entry.model else None,
            dtype=torch.float32,
            trust_remote_code=entry.trust_remote_code,
            use_safetensors=True,
            attn_implementation=loaded_with(attention),
            quantization_config=quantized,
        )
    except loading_failures() as error:
        raise ModelError(f"cannot load model {model}: {error}") from error
    freeze_removed(loaded)
    complete_attention(loaded)
    return loaded


def lora_config(lora: Lora | None) -> LoraConfig | None:
    """PEFT's config, or None for full fine-tuning."""
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", **lora.model_dump(exclude={"quantize"}))


def last_checkpoint(folder: Path) -> Path | None:
    """The latest whole checkpoint; those that a killed process was still writing are left out."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for checkpoint in reversed(found):
        try:  # the trainer writes its state last
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            logger.warning("%s is not whole; going back to the one before it", checkpoint)
        else:
            return checkpoint
    return None


def warn_of_many_passes(settings: Training, rows: int, *, where: str) -> None:
    """Says when `max_steps` asks for so many passes over few rows that they are learnt by heart.

    Args:
        where: section of the recipe that has the settings.
    """
    steps, batch = settings.train.get("max_steps", -1), settings.global_batch_size
    passes = steps * batch / max(rows, 1)
    if passes > MANY_PASSES:
        logger.warning(
            "%s.train.max_steps is %d: with %d rows per step that is %.0f passes over %d rows; "
            "take fewer steps, or num_train_epochs instead, or the model learns them by heart",
            *(where, steps, batch, passes, rows),
        )


def train_and_save(
    trainer: Trainer,
    work: StageWork,
    *,
    rows: int,
    load_base: Callable[[], Any] | None = None,
    compiled: bool = False,
) -> None:
    """Trains, resuming from the last checkpoint if there is one, then saves model and history.

    The model folder holds merged weights, so that samplers and evaluation need no adapter.

    load_base: loads in full precision what was quantised for training.
    compiled: whether the layers of the policy, and of a reference beside it, are compiled.

    Raises:
        ModelError: a token has no embedding, the loss is no finite number, or what is saved is not
            the trained model.
        RecipeError: the optimizer or the schedule cannot be made.
        Terminated: SIGTERM came; there is a checkpoint of the last whole step.
    """
    from wrpo.training.account import Account
    from wrpo.training.callbacks import FiniteLoss, MetricsFile, StopsAtSigterm

    trainer.add_callback(MetricsFile(work.path / METRICS))
    preemption = StopsAtSigterm(trainer)
    trainer.add_callback(preemption)
    last = last_checkpoint(work.path / CHECKPOINTS)
    if last:
        logger.info("resuming from %s", last)
    require_embeddings(trainer)
    require_effect(trainer, where=f"{work.path.name}.train")
    if compiled:
        from wrpo.training.compiled_layers import compile_layers

        for model in filter(None.__ne__, (trainer.model, getattr(trainer, "ref_model", None))):
            compile_layers(model)
    account = Account(trainer)
    finite = FiniteLoss(trainer, where=f"{work.path.name}.train")
    trainer.add_callback(finite)
    result = trainer.train(resume_from_checkpoint=str(last) if last else None)
    if preemption.stopped:
        raise Terminated
    finite.require()
    took = account.facts()
    save_model(trainer, work.path / MODEL, load_base=load_base)
    if trainer.is_world_process_zero():
        history = json.dumps(trainer.state.log_history, indent=1)
        (work.path / LOG_HISTORY).write_text(history, encoding="utf-8")
    steps, loss = trainer.state.global_step, round(result.training_loss, 6)
    work.facts.update(rows=rows, steps=steps, train_loss=loss, **took)
    trainer.accelerator.wait_for_everyone()

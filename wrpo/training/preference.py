"""Training with objectives that compare responses: WRPOTrainer on rows with their reference."""

from __future__ import annotations

from functools import partial

from wrpo.chat.tokenizer import load_chat_tokenizer
from wrpo.objectives.base import ObjectiveSettings
from wrpo.objectives.reference import rows_by_response_id
from wrpo.pipeline.tables import read_rows
from wrpo.pipeline.training_stages import scored_rows
from wrpo.training.arm import Arm
from wrpo.training.common import (
    load_policy,
    lora_config,
    micro_batch_tokens,
    train_and_save,
    trl_arguments,
)
from wrpo.training.trl_config import make_config, refusals


def train_preference(settings: ObjectiveSettings, arm: Arm) -> None:
    """Trains an arm with the loss of `settings.build()`.

    Raises:
        DataError: no row is left, or a response has no log-prob where it needs one.
        RecipeError: TRL refuses a value.
    """
    from datasets import Dataset

    from wrpo import WRPOConfig, WRPOTrainer

    recipe, work = arm.recipe, arm.work
    tables = {
        (name, kind): rows_by_response_id(read_rows(arm.inputs[f"logprobs/{name}/{kind}"]))
        for name, kind in scored_rows(recipe, arm.name)
    }
    rows = settings.rows_to_train(settings.with_reference(arm.rows, tables))
    arguments = trl_arguments(settings, seed=recipe.seed, output=work.path)
    arguments["objective"] = settings
    arguments["micro_batch_tokens"] = micro_batch_tokens(settings)
    arguments["balance_micro_batches"] = settings.engine.balance_micro_batches
    arguments |= recipe.truncation.model_dump(exclude={"mode"})
    arguments["truncation"] = recipe.truncation.mode
    arguments["fold_system"] = recipe.target.fold_system
    args = make_config(WRPOConfig, arguments, where=arm.where)
    load = partial(load_policy, arm.start, recipe.target, attention=settings.engine.attention)
    policy = load(quantize=settings.lora.quantize if settings.lora else None)
    with refusals(arm.where):
        trainer = WRPOTrainer(
            model=policy,
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=load_chat_tokenizer(arm.start, recipe.target),
            peft_config=lora_config(settings.lora),
        )
    train_and_save(trainer, work, rows=len(rows), load_base=load, compiled=settings.engine.compile)

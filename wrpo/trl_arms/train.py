"""The training stage of arms that TRL's own trainers train."""

from __future__ import annotations

from functools import partial
from typing import Any

from transformers import TrainerCallback

from wrpo.chat.tokenizer import load_chat_tokenizer
from wrpo.pipeline.tables import PromptLookup
from wrpo.training.arm import Arm
from wrpo.training.common import (
    load_policy,
    lora_config,
    train_and_save,
    trl_arguments,
)
from wrpo.trl_arms.settings import TRLSettings, TRLTask


def train_by_trl(settings: TRLSettings, arm: Arm) -> None:
    """Trains an arm on the prompts of rows of triples, or on one response of each.

    Raises:
        ModelError: a teacher cannot be loaded, or its tokenizer does not fit.
        RecipeError: TRL refuses a value.
    """
    from wrpo.chat.render import stop_token_ids

    recipe, work = arm.recipe, arm.work
    rows = settings.rows_to_train(arm.rows)
    lookup = PromptLookup(arm.inputs["prompts"])
    facts = ("domain", "reference_answer")
    known = [{**row, **{name: lookup[row["prompt_id"]][name] for name in facts}} for row in rows]
    tokenizer = load_chat_tokenizer(arm.start, recipe.target)
    load = partial(load_policy, arm.start, recipe.target, attention=settings.engine.attention)
    model: Any = arm.start
    if not settings.starts_by_name:
        model = load(quantize=settings.lora.quantize if settings.lora else None)
    ends = _EndsOfTurns(model, tokenizer, stop_token_ids(tokenizer))
    trainer = settings.trainer(
        TRLTask(
            pipeline=arm.pipeline,
            rows=known,
            inputs=arm.inputs,
            where=arm.where,
            tokenizer=tokenizer,
            arguments=trl_arguments(settings, seed=recipe.seed, output=work.path),
            trainer_arguments={
                "model": model,
                "processing_class": tokenizer,
                "peft_config": lora_config(settings.lora),
            },
        )
    )
    trainer.add_callback(ends)
    train_and_save(trainer, work, rows=len(known), load_base=load)
    if sampled := _logged_samples(trainer):
        work.facts["sampled_tokens"] = sampled
    if settings.is_taught:  # by one that forwards what the policy does
        work.facts["teacher_tokens"] = work.facts["trained_tokens"]


def _logged_samples(trainer: Any) -> int:
    """Tokens that a trainer sampled, by the mean length that it logs; 0 where it logs none."""
    name = "completions/mean_length"
    lengths = [row[name] for row in trainer.state.log_history if name in row]
    if not lengths:
        return 0
    args = trainer.args
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    responses = trainer.state.global_step * batch * trainer.accelerator.num_processes
    return round(sum(lengths) / len(lengths) * responses)


class _EndsOfTurns(TrainerCallback):
    """Lets TRL stop responses where turns end, which is not always the end of a text; what is saved
    is as it was. A model that the trainer loads itself goes by its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, stops: list[int]) -> None:
        self._tokenizer, self._eos = tokenizer, tokenizer.eos_token
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(stops[0])
        self._config = None if isinstance(model, str) else model.generation_config
        if self._config is not None:
            self._stops = self._config.eos_token_id
            self._config.eos_token_id = stops

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._tokenizer.eos_token = self._eos
        if self._config is not None:
            self._config.eos_token_id = self._stops

"""Make and save one model folder: tokenizer, chat template, weights, generation settings."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from tiny_world import habits
from tiny_world.architectures import (
    LANGUAGE_MODELS,
    REWARD_STEPS,
    REWARD_TOKENIZER,
    model_config,
    reward_config,
    stop_ids,
)
from tiny_world.tokenizers import TokenizerSpec, train_tokenizer
from tiny_world.training import ChatFrame, train_language_model, train_reward_model
from tiny_world.world import Lexicon

TOKENIZER_TEXTS = 3000


def make_language_model(
    name: str,
    folder: Path,
    *,
    lexicon: Lexicon,
    rng: random.Random,
    steps_scale: float,
    tokenizer_rng: random.Random | None = None,
    layers: int = 2,
) -> dict[str, Any]:
    """Train a source model or the target and save it; returns its architecture and size.

    Args:
        tokenizer_rng: draws what the target's tokenizer is trained on, for a model that shares it;
            None: the model has a tokenizer of its own.
    """
    spec = LANGUAGE_MODELS[name]
    if tokenizer_rng is not None:
        spec = replace(spec, tokenizer=LANGUAGE_MODELS["target"].tokenizer)
    tokenizer = _world_tokenizer(spec.tokenizer, lexicon=lexicon, rng=tokenizer_rng or rng)
    model = AutoModelForCausalLM.from_config(model_config(spec, tokenizer, layers=layers))
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=stop_ids(spec.tokenizer, tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )
    steps = max(1, round(spec.steps * steps_scale))
    train_language_model(
        model,
        tokenizer,
        frame=ChatFrame.of(tokenizer, spec.tokenizer.end_of_turn),
        habits=spec.habits,
        lexicon=lexicon,
        steps=steps,
        rng=rng,
    )
    return _save(model, tokenizer, folder, steps=steps)


def make_reward_model(
    folder: Path, *, lexicon: Lexicon, rng: random.Random, steps_scale: float
) -> dict[str, Any]:
    """Train the reward model and save it; returns its architecture and size."""
    tokenizer = _world_tokenizer(REWARD_TOKENIZER, lexicon=lexicon, rng=rng)
    model = LlamaForSequenceClassification(reward_config(tokenizer))
    steps = max(1, round(REWARD_STEPS * steps_scale))
    train_reward_model(
        model,
        tokenizer,
        frame=ChatFrame.of(tokenizer, REWARD_TOKENIZER.end_of_turn),
        lexicon=lexicon,
        steps=steps,
        rng=rng,
    )
    return _save(model, tokenizer, folder, steps=steps)


def _world_tokenizer(
    spec: TokenizerSpec, *, lexicon: Lexicon, rng: random.Random
) -> PreTrainedTokenizerFast:
    """Train a tokenizer on prompts and on answers with every kind of content."""
    texts = ["user assistant model system"] * TOKENIZER_TEXTS
    for knowledge in (habits.LETTERS, habits.NUMBERS, habits.WORDS):
        for _ in range(TOKENIZER_TEXTS):
            texts.extend(habits.draw_example(knowledge, lexicon=lexicon, rng=rng))
    return train_tokenizer(spec, texts)


def _save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, *, steps: int
) -> dict[str, Any]:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {
        "architecture": type(model).__name__,
        "vocabulary": len(tokenizer),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": steps,
    }

"""The configurations of the five models, and how each is made."""

from dataclasses import dataclass
from typing import Any

from transformers import (
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from tiny_world import habits, tokenizers
from tiny_world.habits import Habits
from tiny_world.tokenizers import TokenizerSpec

HEAD_SIZE = 32  # the smallest that vLLM's attention kernels for CPUs take
CONTEXT = 256  # tokens


@dataclass(frozen=True)
class ModelSpec:
    """How one language model of the world is made.

    Attributes:
        architecture: The configuration class of transformers.
        hidden: Width of the model; a multiple of HEAD_SIZE.
        steps: Training steps; see training.BATCH_SIZE.
        extra: Further settings of the configuration.
    """

    architecture: type[PretrainedConfig]
    tokenizer: TokenizerSpec
    habits: Habits
    hidden: int
    steps: int
    extra: tuple[tuple[str, Any], ...] = ()


LANGUAGE_MODELS = {
    "letters": ModelSpec(Qwen3Config, tokenizers.CHATML, habits.LETTERS, 128, 240),
    "numbers": ModelSpec(
        Gemma3TextConfig,
        tokenizers.GEMMA,
        habits.NUMBERS,
        128,
        300,
        (("query_pre_attn_scalar", HEAD_SIZE), ("sliding_window", CONTEXT)),
    ),
    "words": ModelSpec(
        MistralConfig, tokenizers.MISTRAL, habits.WORDS, 128, 240, (("sliding_window", None),)
    ),
    "target": ModelSpec(LlamaConfig, tokenizers.LLAMA, habits.TARGET, 96, 600),
}
REWARD_TOKENIZER = tokenizers.LLAMA
REWARD_HIDDEN = 64
REWARD_STEPS = 120


def model_config(
    spec: ModelSpec, tokenizer: PreTrainedTokenizerFast, *, layers: int = 2
) -> PretrainedConfig:
    """The configuration of a language model; it stops at the end of a turn or of the text."""
    return spec.architecture(
        **_shape(spec.hidden, tokenizer, layers=layers),
        eos_token_id=stop_ids(spec.tokenizer, tokenizer),
        **dict(spec.extra),
    )


def reward_config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    """The configuration of the reward model: a sequence classifier with one label."""
    eos = tokenizer.eos_token_id
    return LlamaConfig(**_shape(REWARD_HIDDEN, tokenizer), eos_token_id=eos, num_labels=1)


def stop_ids(spec: TokenizerSpec, tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """The ids at which generation stops, the end of a turn first."""
    names = dict.fromkeys((spec.end_of_turn, spec.eos))
    return [tokenizer.convert_tokens_to_ids(name) for name in names]


def _shape(hidden: int, tokenizer: PreTrainedTokenizerFast, *, layers: int = 2) -> dict[str, Any]:
    heads = hidden // HEAD_SIZE
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": HEAD_SIZE,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }

"""Tiny models and tokenizers, made from their configs in milliseconds; nothing is downloaded."""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

BOS, EOS, EOT, PAD = "<|begin|>", "<|end|>", "<|eot|>", "<|pad|>"
HEADERS = ("<|start_header|>", "<|end_header|>")

# Header, text, end of turn: the shape of the Llama-3 template.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for m in messages %}"
    "<|start_header|>{{ m.role }}<|end_header|>\n\n{{ m.content }}<|eot|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header|>assistant<|end_header|>\n\n{% endif %}"
)

_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}

# Per architecture: class prefix and what differs from the common shape.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": 24}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "gemma2": ("Gemma2", {"sliding_window": 24, "query_pre_attn_scalar": 8}),
    "phi3": ("Phi3", {"sliding_window": 24}),
    "vaultgemma": ("VaultGemma", {"sliding_window": 24}),
    "granite": ("Granite", {}),
    "phimoe": ("Phimoe", {"sliding_window": 24, "num_local_experts": 4}),
    "gpt_oss": (
        "GptOss",
        {"sliding_window": 24, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "qwen3_moe": (
        "Qwen3Moe",
        {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ),
    "mixtral": (
        "Mixtral",
        {"num_local_experts": 4, "output_router_logits": True, "router_aux_loss_coef": 0.02},
    ),
}


def tiny_tokenizer(chat_template: str | None = CHAT_TEMPLATE) -> PreTrainedTokenizerBase:
    """Byte-level tokenizer (one token per byte) with BOS, end-of-turn and a chat template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [PAD, BOS, EOS, EOT, *HEADERS]
    vocabulary = {token: i for i, token in enumerate([*special, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOT,
        pad_token=PAD,
        additional_special_tokens=[EOS, *HEADERS],
        chat_template=chat_template,
    )


def tiny_model(
    architecture: str = "llama",
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    vocab_size: int = 262,
    **overrides: Any,
) -> PreTrainedModel:
    """Randomly initialised causal language model of about 30 k parameters."""
    prefix, differences = ARCHITECTURES[architecture]
    settings = {**_SHAPE, **differences, **overrides}
    config = getattr(transformers, f"{prefix}Config")(
        vocab_size=vocab_size, bos_token_id=1, eos_token_id=3, pad_token_id=0, **settings
    )
    torch.manual_seed(seed)
    return getattr(transformers, f"{prefix}ForCausalLM")(config).to(dtype).eval()


VLLM_SHAPE = {
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
}
"""What differs for models that vLLM runs: its attention on CPUs takes no heads smaller than 32."""


def save_tiny_reward(folder: Path) -> Path:
    """Save a Llama with one label and its tokenizer: a sequence-classification reward model."""
    config = tiny_model("llama").config
    config.num_labels = 1
    torch.manual_seed(4)
    transformers.LlamaForSequenceClassification(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def save_tiny(folder: Path, architecture: str = "llama", **options: Any) -> Path:
    """Save a tiny model with its tokenizer, as a model folder that every tool can load."""
    tiny_model(architecture, **options).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder

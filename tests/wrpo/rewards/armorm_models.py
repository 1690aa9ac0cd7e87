"""A tiny ArmoRM checkpoint, a Llama-3-like tokenizer, and the score in float64 step by step."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.support.tiny_models import tiny_tokenizer

OBJECTIVES, HIDDEN, GATE = 5, 32, 24

LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def llama3_tokenizer(chat_template: str = LLAMA3_TEMPLATE) -> PreTrainedTokenizerBase:
    """One token per byte, and the tokens of the gating pattern under their Llama-3 ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate(alphabet)}
    merges = [("Ċ", "Ċ")]
    vocabulary["ĊĊ"] = 271
    for end in range(2, 10):
        vocabulary["assistant"[:end]] = 300 + end
        merges.append(("assistant"[: end - 1], "assistant"[end - 1]))
    vocabulary["assistant"] = 78191
    special = {
        "<|begin_of_text|>": 128000,
        "<|start_header_id|>": 128006,
        "<|end_header_id|>": 128007,
        "<|eot_id|>": 128009,
        "[PAD]": 128256,
    }
    backend = Tokenizer(models.BPE(vocab=vocabulary | special, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="[PAD]",
        additional_special_tokens=["<|start_header_id|>", "<|end_header_id|>"],
        chat_template=chat_template,
    )


def save_armorm(
    folder: Path, *, tokenizer: PreTrainedTokenizerBase | None = None, shards: int = 1
) -> Path:
    """A checkpoint of the published layout with random weights, in one file or in shards."""
    tokenizer = tokenizer or tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=max(tokenizer.get_vocab().values()) + 1,
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    backbone = LlamaModel(config)
    tensors = {f"model.{name}": value for name, value in backbone.state_dict().items()}
    tensors["regression_layer.weight"] = torch.randn(OBJECTIVES, HIDDEN)
    tensors["reward_transform_matrix"] = torch.eye(OBJECTIVES) + torch.rand(OBJECTIVES, OBJECTIVES)
    widths = [HIDDEN, GATE, GATE, GATE, OBJECTIVES]
    for i in range(4):
        tensors[f"gating.layers.{i}.weight"] = torch.randn(widths[i + 1], widths[i])
        tensors[f"gating.layers.{i}.bias"] = torch.randn(widths[i + 1])
    tensors["gating.logit_scale"] = torch.tensor([1.7])
    folder.mkdir(parents=True, exist_ok=True)
    _save_tensors(folder, tensors, shards)
    settings = config.to_dict() | {
        "architectures": ["LlamaForRewardModelWithGating"],
        "auto_map": {
            "AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating"
        },
        "num_objectives": OBJECTIVES,
        "gating_temperature": 10,
        "gating_hidden_dim": GATE,
        "gating_n_hidden": 3,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    tokenizer.save_pretrained(folder)
    return folder


def _save_tensors(folder: Path, tensors: dict[str, torch.Tensor], shards: int) -> None:
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in sorted(tensors)[i::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def expected_score(folder: Path, ids: Sequence[int], gate: int) -> float:
    """The score of one conversation in float64 from the tensors of a checkpoint in one file."""
    config = LlamaConfig.from_pretrained(folder)
    tensors = {k: v.double() for k, v in load_file(folder / "model.safetensors").items()}
    backbone = LlamaModel(config).double().eval()
    backbone.load_state_dict(
        {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    )
    with torch.no_grad():
        hidden = backbone(torch.tensor([list(ids)])).last_hidden_state[0]
    x = hidden[gate]
    for i in range(4):
        x = tensors[f"gating.layers.{i}.weight"] @ x + tensors[f"gating.layers.{i}.bias"]
        x = x.clamp(min=0) if i < 3 else x
    odds = (x / 10).exp()
    coefficients = tensors["gating.logit_scale"].item() * odds / odds.sum()
    rewards = tensors["regression_layer.weight"] @ hidden[-1]
    total = 0.0
    for k in range(OBJECTIVES):
        for i in range(OBJECTIVES):
            matrix = tensors["reward_transform_matrix"][i, k]
            total += (coefficients[k] * rewards[i] * matrix).item()
    return total

"""Another tokenizer and chat template for a model that is there, as sources in life have them.

Each new token starts at the mean of the old embeddings of its text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tiny_world.tokenizers import LLAMA, train_tokenizer


def give_vocabulary(model: Any, tokenizer: Any, texts: Sequence[str], *, size: int) -> Any:
    """Replaces the embeddings of a model, in place, by those of a new tokenizer, and returns it.

    The tokenizer is a byte-level BPE of `texts` with a template in the style of Llama 3. Embeddings
    and head of the model are tied.
    """
    import torch

    made = train_tokenizer(replace(LLAMA, vocab_size=size), texts)
    made.model_max_length = model.config.max_position_embeddings
    old = model.get_input_embeddings().weight.detach()
    rows = [_mean(old, ids) for ids in _old_ids(made, tokenizer)]
    model.resize_token_embeddings(len(made))
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.stack(rows))
    model.tie_weights()
    ids = {"bos_token_id": made.bos_token_id, "eos_token_id": made.eos_token_id}
    for settings in (model.config, model.generation_config):
        for name, value in {**ids, "pad_token_id": made.pad_token_id}.items():
            setattr(settings, name, value)
    return made


def _old_ids(made: Any, old: Any) -> list[list[int]]:
    """For each new token, the old tokens of what it stands for."""
    # The template's marks mean what the old template's mean.
    marks = {
        LLAMA.bos: [old.bos_token_id],
        LLAMA.end_of_turn: [old.eos_token_id],
        LLAMA.pad: [old.pad_token_id],
        "<|start_header_id|>": [old.bos_token_id],
        "<|end_header_id|>": old.encode("\n", add_special_tokens=False),
    }
    names = made.convert_ids_to_tokens(list(range(len(made))))
    return [
        marks.get(name) or old.encode(made.decode([place]), add_special_tokens=False)
        for place, name in enumerate(names)
    ]


def _mean(embeddings: Any, ids: list[int]) -> Any:
    return embeddings[ids].mean(0) if ids else embeddings.mean(0)

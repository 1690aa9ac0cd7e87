"""The network of ArmoRM: a Llama backbone, and 19 objectives that a gate on the prompt weighs."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import LlamaModel

from wrpo.errors import ModelError, loading_failures
from wrpo.rewards.networks.batches import Batch
from wrpo.rewards.networks.network import Head

_INDEX = "model.safetensors.index.json"


class Gating(nn.Module):
    """Weights of the objectives from a hidden state of the prompt (arXiv 2406.12845)."""

    def __init__(self, sizes: list[int], temperature: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*shape) for shape in pairwise(sizes))
        self.logit_scale = nn.Parameter(torch.ones(1))
        self._temperature = temperature

    def forward(self, hidden: Tensor) -> Tensor:
        """(prompts, hidden) to (prompts, objectives)."""
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        logits = self.layers[-1](hidden) / self._temperature
        return torch.softmax(logits, dim=-1) * self.logit_scale[0]


class ArmoRMHead(nn.Module):
    """score = sum_k gate(h_prompt)_k * (W h_last M)_k, in float32; parameters named as published.

    In bfloat16, as the published code computes it, scores lie on a grid of about 1e-3, and
    responses tie.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        hidden, objectives = config.hidden_size, config.num_objectives
        between = [config.gating_hidden_dim] * config.gating_n_hidden
        self.regression_layer = nn.Linear(hidden, objectives, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.eye(objectives))
        self.gating = Gating([hidden, *between, objectives], config.gating_temperature)

    def forward(self, last: Tensor, prompt: Tensor, prompt_of: Tensor) -> Tensor:
        """Scores (responses,).

        Args:
            last: (responses, hidden) at the last token of each conversation.
            prompt: (prompts, hidden) at the gating token of each prompt.
            prompt_of: (responses,) index of the prompt of each response.
        """
        rewards = self.regression_layer(last.float()) @ self.reward_transform_matrix
        gates: Tensor = self.gating(prompt.float())
        return (gates[prompt_of] * rewards).sum(dim=-1)


def load_head(folder: Path, config: Any) -> ArmoRMHead:
    """The head from the safetensors files of a checkpoint folder.

    Raises:
        ModelError: a setting or a tensor of the head is missing or has another shape.
    """
    try:
        head = ArmoRMHead(config)
        tensors = _tensors(folder, set(head.state_dict()))
        head.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (AttributeError, OSError, RuntimeError) as error:
        raise ModelError(
            f"{folder} has no ArmoRM head: {error}. Use RLHFlow/ArmoRM-Llama3-8B-v0.1, or another "
            "reward type"
        ) from error
    return head.eval().requires_grad_(False)


def _tensors(folder: Path, names: set[str]) -> dict[str, Tensor]:
    """Those of the named tensors that the checkpoint has, from one file or from several shards."""
    files = {"model.safetensors"}
    if (folder / _INDEX).is_file():
        shards = json.loads((folder / _INDEX).read_text("utf-8"))["weight_map"]
        files = {file for name, file in shards.items() if name in names}
    tensors = {}
    for file in sorted(files):
        with safe_open(folder / file, framework="pt") as handle:
            for name in names.intersection(handle.keys()):
                tensors[name] = handle.get_tensor(name)
    return tensors


def pooled_head(folder: Path, backbone: Any, *, gate: int) -> Head:
    """The head, reading the token at `gate` from the end of each prompt."""
    module = load_head(folder, backbone.config).to(backbone.device)

    def head(hidden: Tensor, batch: Batch) -> Tensor:
        prompts, prompt_of = batch.prompt_end.to(hidden.device).unique(return_inverse=True)
        last = hidden[batch.last.to(hidden.device)]
        scores: Tensor = module(last, hidden[prompts + gate], prompt_of)
        return scores

    return head


class _Backbone(LlamaModel):
    _keys_to_ignore_on_load_unexpected = ["regression_layer", "reward_transform_matrix", "gating"]


def load_backbone(folder: Path, name: str, *, dtype: str) -> Any:
    """The backbone of a checkpoint folder, on the GPU if there is one.

    Args:
        name: of the model, for messages.

    Raises:
        ModelError: it cannot be loaded, or lacks weights.
    """
    try:
        backbone, report = _Backbone.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except loading_failures() as error:
        raise ModelError(f"cannot load reward model {name}: {error}") from error
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"reward model {name} lacks {missing[:3]}; download it again")
    return backbone.eval().to("cuda" if torch.cuda.is_available() else "cpu")

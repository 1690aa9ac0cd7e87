"""ArmoRM (RLHFlow/ArmoRM-Llama3-8B-v0.1) without the code that comes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wrpo.errors import ModelError, loading_failures
from wrpo.rewards.base import NetworkSettings

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline
    from wrpo.rewards.networks.batches import Conversation
    from wrpo.rewards.networks.network_reward import NetworkReward

LLAMA3_PATTERN = (128009, 128006, 78191, 128007, 271)
"""<|eot_id|><|start_header_id|>assistant<|end_header_id|> and two newlines."""
_END_OF_TURN = "<|eot_id|>"

# Scores lie near 0.15 and differ by hundredths.
_TOLERANCE = 1e-3
_HALF_TOLERANCE = 0.02


class ArmoRMReward(NetworkSettings):
    """RLHFlow/ArmoRM-Llama3-8B-v0.1, or a checkpoint of that shape; runs no code of its own."""

    type: Literal["armorm"]

    def load(self, pipeline: Pipeline | None = None) -> NetworkReward:
        """The network in this process."""
        return load_armorm(self)


def load_armorm(settings: ArmoRMReward) -> NetworkReward:
    """Gated sum of ArmoRM's objectives for the rendered conversation.

    The gate reads the token that ends the last user turn: the start of the last occurrence of
    `gating_pattern`, with which every prompt ends. It is computed once for all responses of a
    prompt.

    Raises:
        ModelError: the checkpoint cannot be loaded or is no ArmoRM, its chat template is not the
            one it was trained with, or its scores depend on the batch.
    """
    import torch

    from wrpo.chat.tokenizer import load_tokenizer
    from wrpo.rewards.networks.armorm_network import load_backbone, pooled_head
    from wrpo.rewards.networks.network import Pooled, share_prompts
    from wrpo.rewards.networks.network_reward import NetworkReward, Networks

    folder = _folder(settings.model, settings.revision)
    template = str(settings.chat_template) if settings.chat_template else None
    tokenizer = load_tokenizer(folder, chat_template=template)
    pattern = gating_pattern(tokenizer)
    backbone = load_backbone(folder, settings.model, dtype=settings.dtype)
    network = Pooled(backbone, pooled_head(folder, backbone, gate=1 - len(pattern)))
    networks = Networks(
        plain=network,
        shared=share_prompts(backbone, settings.max_tokens) or network,
        tolerance=_TOLERANCE if backbone.dtype == torch.float32 else _HALF_TOLERANCE,
        dtype=str(backbone.dtype).removeprefix("torch."),
    )
    check = GateCheck(settings.model, tokenizer, pattern)
    return NetworkReward(settings, tokenizer, networks, check)


@dataclass(frozen=True)
class GateCheck:
    """Holds the gating token, known from the prompt's length, against the published rule."""

    model: str
    tokenizer: Any
    pattern: tuple[int, ...]

    def __call__(self, conversation: Conversation) -> None:
        """Raises ModelError where the gate would read another token."""
        prompt, response = conversation
        known = len(prompt) - len(self.pattern)
        if (found := gating_position([*prompt, *response], self.pattern)) != known:
            raise ModelError(
                f"{self.model}: the gate should read token {known}, where the last user "
                f"turn ends, but the pattern {list(self.pattern)} last occurs at {found}; its "
                f"chat template is not ArmoRM's. Prompt: {self.tokenizer.decode(prompt)[-200:]!r}"
            )


def gating_pattern(tokenizer: Any) -> tuple[int, ...]:
    """The ids between a user's text and the response, which prompts have in common at their end.

    Raises:
        ModelError: there is nothing in common, or the tokenizer is Llama-3's and this is not
            `LLAMA3_PATTERN`, with which the gate was trained.
    """
    from wrpo.chat.render import render_prompt

    one, other = (render_prompt(tokenizer, [{"role": "user", "content": c}]) for c in ("1", "b"))
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    pattern = tuple(one[len(one) - length :])
    is_llama3 = tokenizer.convert_tokens_to_ids(_END_OF_TURN) == LLAMA3_PATTERN[0]
    if not pattern or (is_llama3 and pattern != LLAMA3_PATTERN):
        raise ModelError(
            f"ArmoRM: the chat template ends a user turn with {list(pattern)}, not with "
            f"{list(LLAMA3_PATTERN)}; set chat_template to Llama-3's"
        )
    return pattern


def gating_position(ids: Sequence[int], pattern: Sequence[int]) -> int | None:
    """Where the last occurrence of the pattern starts; None if it does not occur.

    >>> gating_position([7, 8, 1, 7, 8, 2], [7, 8])
    3
    """
    ids, pattern = list(ids), list(pattern)
    for start in range(len(ids) - len(pattern), -1, -1):
        if ids[start : start + len(pattern)] == pattern:
            return start
    return None


def _folder(model: str, revision: str | None) -> Path:
    """The folder of a local checkpoint, or of what is needed of one on the hub."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download

    try:
        # No *.py: the checkpoint brings code that is not run.
        patterns = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except loading_failures() as error:
        raise ModelError(
            f"cannot load reward model {model}: it is no folder here, and the hub says: {error}"
        ) from error

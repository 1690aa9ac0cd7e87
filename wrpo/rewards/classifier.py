"""Sequence-classification reward models with one label, through transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from wrpo.chat.tokenizer import load_tokenizer
from wrpo.errors import ModelError
from wrpo.recipe.rewards import ClassifierReward
from wrpo.rewards.network import Network, Pooled, Whole, has_score_head, score_head, share_prompts
from wrpo.rewards.network_reward import NetworkReward, Networks

_TOLERANCE = 1e-3
_HALF_TOLERANCE = 0.15


class Classifier(NetworkReward):
    """Raw logit of the single label for the rendered conversation.

    The answers of a prompt share it where the head is transformers' linear layer `score`; other
    heads score padded rows.

    Attributes:
        tokenizer: the model's, with the recipe's chat template.
        dtype: precision of the backbone, e.g. "bfloat16".

    Raises:
        ModelError: the model cannot be loaded, has several labels, or depends on its batch.
    """

    def __init__(self, settings: ClassifierReward) -> None:
        tokenizer = load_tokenizer(
            settings.model,
            revision=settings.revision,
            chat_template=str(settings.chat_template) if settings.chat_template else None,
            trust_remote_code=settings.trust_remote_code,
        )
        model = _load(settings, tokenizer.pad_token_id)
        self.tokenizer = tokenizer
        self.dtype = str(model.dtype).removeprefix("torch.")
        exact = model.dtype == torch.float32
        super().__init__(
            settings,
            tokenizer,
            Networks(
                plain=Whole(model),
                shared=_shared(model, settings.max_tokens),
                tolerance=_TOLERANCE if exact else _HALF_TOLERANCE,
            ),
        )


def _shared(model: Any, max_tokens: int) -> Network | str:
    if not has_score_head(model):
        return f"the head of {type(model).__name__} is not one linear layer named score"
    return share_prompts(model, max_tokens) or Pooled(model.base_model, score_head(model))


def _load(settings: ClassifierReward, pad_token_id: int) -> Any:
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            settings.model,
            revision=settings.revision,
            dtype=settings.dtype,
            trust_remote_code=settings.trust_remote_code,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"cannot load reward model {settings.model}: {error}") from error
    if model.config.num_labels != 1:
        raise ModelError(
            f"reward model {settings.model} has {model.config.num_labels} labels, not one"
        )
    # Classification heads find the last token through the config's pad id.
    model.config.get_text_config().pad_token_id = pad_token_id
    model.config.get_text_config().use_cache = False
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

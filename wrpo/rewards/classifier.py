"""Sequence-classification reward models with one label, through transformers or vLLM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from wrpo.engines.local.vllm_env import prepare_environment
from wrpo.engines.vllm import VLLMArguments
from wrpo.errors import ModelError, loading_failures
from wrpo.rewards.base import NetworkSettings, RewardModel, RewardNetwork, ScoringEngine

if TYPE_CHECKING:
    from wrpo.pipeline.pipeline import Pipeline
    from wrpo.rewards.networks.network_reward import NetworkReward

_TOLERANCE = 1e-3
_HALF_TOLERANCE = 0.15


class ClassifierEngine(ScoringEngine, VLLMArguments):
    """How fast a classifier scores; `vllm` takes the fields after `batch_tokens`."""

    backend: Literal["transformers", "vllm"] = Field(
        "transformers",
        description="vllm is compared with transformers on the first responses, and refused where "
        "it gives other scores.",
    )


class ClassifierReward(NetworkSettings):
    """A sequence-classification reward model with one label; its raw logit is the score."""

    type: Literal["classifier"]
    trust_remote_code: bool = Field(False, description="Run Python code from the model's folder.")
    engine: ClassifierEngine = Field(default_factory=ClassifierEngine, description="Speed only.")

    def load(self, pipeline: Pipeline | None = None) -> RewardModel:
        """The model in this process, or in vLLM after a comparison with that."""
        if self.engine.backend == "transformers":
            return load_classifier(self)
        prepare_environment(eager=self.engine.enforce_eager)
        from wrpo.rewards.networks.vllm_classifier import VLLMClassifier

        return VLLMClassifier(self, load_classifier(self), self.engine)

    def networks(self) -> tuple[RewardNetwork, ...]:
        """The model, on the GPUs of its engine."""
        [network] = super().networks()
        gpus = self.engine.gpus_per_replica
        return (network._replace(trust_remote_code=self.trust_remote_code, gpus=gpus),)

    def extras(self) -> frozenset[str]:
        """vLLM, where it scores."""
        return frozenset({"vllm"} if self.engine.backend == "vllm" else ())


def load_classifier(settings: ClassifierReward) -> NetworkReward:
    """Raw logit of the single label for the rendered conversation.

    The responses of a prompt share it where the head is transformers' linear layer `score`; other
    heads score padded rows.

    Raises:
        ModelError: the model cannot be loaded, has several labels, or depends on its batch.
    """
    import torch

    from wrpo.chat.tokenizer import load_tokenizer
    from wrpo.rewards.networks.network import Whole
    from wrpo.rewards.networks.network_reward import NetworkReward, Networks

    tokenizer = load_tokenizer(
        settings.model,
        revision=settings.revision,
        chat_template=str(settings.chat_template) if settings.chat_template else None,
        trust_remote_code=settings.trust_remote_code,
    )
    model = _load(settings, tokenizer.pad_token_id)
    networks = Networks(
        plain=Whole(model),
        shared=_shared(model, settings.max_tokens),
        tolerance=_TOLERANCE if model.dtype == torch.float32 else _HALF_TOLERANCE,
        dtype=str(model.dtype).removeprefix("torch."),
    )
    return NetworkReward(settings, tokenizer, networks)


def _shared(model: Any, max_tokens: int) -> Any:
    """The network for batches that share prompts, or why there is none."""
    from wrpo.rewards.networks.network import Pooled, has_score_head, score_head, share_prompts

    if not has_score_head(model):
        return f"the head of {type(model).__name__} is not one linear layer named score"
    return share_prompts(model, max_tokens) or Pooled(model.base_model, score_head(model))


def _load(settings: ClassifierReward, pad_token_id: int) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification

    from wrpo.prefix.left_out import complete_attention

    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            settings.model,
            revision=settings.revision,
            dtype=settings.dtype,
            trust_remote_code=settings.trust_remote_code,
            use_safetensors=True,
        )
    except loading_failures() as error:
        raise ModelError(f"cannot load reward model {settings.model}: {error}") from error
    if model.config.num_labels != 1:
        raise ModelError(
            f"reward model {settings.model} has {model.config.num_labels} labels, not one"
        )
    # Classification heads find the last token through the config's pad id.
    model.config.get_text_config().pad_token_id = pad_token_id
    model.config.get_text_config().use_cache = False
    model = model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    complete_attention(model)
    return model

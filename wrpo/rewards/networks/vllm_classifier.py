"""Sequence-classification reward models through vLLM's pooling runner."""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from typing import Any

from wrpo.engines.vllm import VLLMArguments, load_llm
from wrpo.errors import ModelError
from wrpo.recipe.sampling import Model
from wrpo.rewards.base import NetworkSettings
from wrpo.rewards.networks.batches import Conversation
from wrpo.rewards.networks.conversation import ConversationReward, excess, spread
from wrpo.rewards.networks.network_reward import NetworkReward

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-3
# Kernels of two libraries round a half-precision backbone differently, in each layer.
_HALF_TOLERANCE = 0.05


class VLLMClassifier(ConversationReward):
    """Raw logit of the single label, computed by vLLM.

    The first call scores up to 16 conversations with transformers, one at a time, frees that model,
    and holds vLLM's scores of them against it: one at a time, and all at once.

    Args:
        reference: the model in transformers.
        engine: how vLLM runs.

    Raises:
        ModelError: vLLM cannot load the model, or their scores differ.
    """

    def __init__(
        self, settings: NetworkSettings, reference: NetworkReward, engine: VLLMArguments
    ) -> None:
        self._reference: NetworkReward | None = reference
        self._network = settings.networks()[0]
        self._engine = engine
        self._llm: Any = None
        super().__init__(settings, reference.tokenizer)

    def values(self, conversations: Sequence[Conversation]) -> dict[Conversation, float]:
        """The reward of each of some distinct conversations."""
        if self._reference is not None and conversations:
            self._replace(self._reference, spread(conversations))
        return dict(zip(conversations, self._run(conversations), strict=True))

    def _replace(self, reference: NetworkReward, checked: list[Conversation]) -> None:
        """Loads vLLM in place of the reference, and compares both."""
        expected, dtype = reference.alone(checked), reference.dtype
        self._reference = None
        del reference
        _free_memory()
        self._llm = self._load(dtype)
        tolerance = _TOLERANCE if dtype == "float32" else _HALF_TOLERANCE
        together = self._run(checked)
        alone = [self._run([conversation])[0] for conversation in checked]
        self._compare("vLLM and transformers", expected, together, tolerance)
        self._compare(f"batch 1 and batch {len(checked)} of vLLM", alone, together, tolerance)

    def _load(self, dtype: str) -> Any:
        # For dtype "auto", vLLM runs float32 weights in half precision.
        entry = Model(
            model=self._network.model,
            revision=self._network.revision,
            dtype=dtype,
            trust_remote_code=self._network.trust_remote_code,
        )
        return load_llm(
            self._network.model,
            entry=entry,
            engine=self._engine,
            max_model_len=self._settings.max_tokens,
            runner="pooling",
        )

    def _run(self, conversations: Sequence[Conversation]) -> list[float]:
        from vllm import PoolingParams
        from vllm.inputs import TokensPrompt

        outputs = self._llm.classify(
            [
                TokensPrompt(prompt_token_ids=[*prompt, *response])
                for prompt, response in conversations
            ],
            # By default vLLM returns a sigmoid of the logit, which is 1 for all good responses.
            pooling_params=PoolingParams(use_activation=False),
            use_tqdm=False,
        )
        return [float(output.outputs.probs[0]) for output in outputs]

    def _compare(self, what: str, one: list[float], other: list[float], tolerance: float) -> None:
        worst = excess(one, other, tolerance)
        model = self._settings.model
        if worst is not None:
            raise ModelError(
                f"reward model {model}: the scores of {what} differ by up to {worst:.4f} on "
                f"{len(one)} responses, more than rounding (e.g. {one[0]:.4f} and {other[0]:.4f}); "
                "set engine.backend: transformers for this reward"
            )
        logger.info("reward %s: %s agree on %d responses", model, what, len(one))


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

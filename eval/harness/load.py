"""Loads and frees the models that lm-eval's classes run. A heavy import."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING, Any

import torch

from eval.harness.models import EvalModel
from wrpo.chat.tokenizer import load_tokenizer
from wrpo.engines.local.vllm_env import prepare_environment
from wrpo.errors import ModelError, WRPOError, loading_failures
from wrpo.recipe.evaluation import Eval
from wrpo.recipe.fusions import FusedModels

if TYPE_CHECKING:
    from eval.harness.fused import FusedLM
    from eval.harness.hf import ChatHFLM
    from eval.harness.vllm import ChatVLLM

    ChatModel = ChatHFLM | ChatVLLM | FusedLM

logger = logging.getLogger(__name__)


def load_model(model: EvalModel, settings: Eval, engine: dict[str, Any]) -> ChatModel:
    """One model with the engine that `eval.backend` names.

    Args:
        engine: further arguments of the engine, which only decide speed.

    Raises:
        ModelError: it cannot be loaded.
        TemplateError: it has no chat template.
    """
    if model.fused is not None:
        return _fused(model, model.fused, settings)
    template = None if model.chat_template is None else str(model.chat_template)
    tokenizer = load_tokenizer(
        model.path,
        revision=model.revision,
        chat_template=template,
        template_kwargs=model.thinking.chat_template_kwargs,
        trust_remote_code=model.trust_remote_code,
    )
    shared: dict[str, Any] = {
        "tokenizer": tokenizer,
        "thinking": model.thinking,
        "fold_system": model.fold_system,
        "revision": model.revision or "main",
        "dtype": settings.dtype,
        "trust_remote_code": model.trust_remote_code,
        "batch_size": settings.engine.batch_size,
        "max_length": settings.max_length,
    }
    try:
        return _LOADERS[settings.backend](model, {**shared, **engine})
    except WRPOError:
        raise
    except loading_failures() as error:
        raise ModelError(
            f"{model.name}: cannot load {model.path} with {settings.backend}: {error}"
        ) from error


def _fused(model: EvalModel, fused: FusedModels, settings: Eval) -> ChatModel:
    from eval.harness.fused import FusedLM

    return FusedLM(
        model.name,
        fused,
        dtype=settings.dtype,
        batch_size=settings.engine.batch_size,
        max_length=settings.max_length,
    )


def _vllm(model: EvalModel, arguments: dict[str, Any]) -> ChatModel:
    prepare_environment(eager=arguments["enforce_eager"])
    from eval.harness.vllm import ChatVLLM

    return ChatVLLM(model.path, quantization=model.quantization, **arguments)


def _hf(model: EvalModel, arguments: dict[str, Any]) -> ChatModel:
    from eval.harness.hf import ChatHFLM

    if model.quantization is not None:
        logger.warning("%s: quantization is for vllm; hf loads what is stored", model.name)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return ChatHFLM(model.path, device=device, **arguments)


_LOADERS = {"hf": _hf, "vllm": _vllm}
"""What loads a model, by `eval.backend`."""


def release(lm: ChatModel) -> None:
    """Frees the memory for the next model; a vLLM engine lives in a process of its own."""
    core = getattr(getattr(lm.model, "llm_engine", None), "engine_core", None)
    if core is not None:
        core.shutdown()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

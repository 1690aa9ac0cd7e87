"""Inference engines: each takes requests and yields completions as they finish."""

from __future__ import annotations

from typing import Any

from wrpo.engines.base import Completion, GenerationEngine, Request, Unanswered
from wrpo.errors import ModelError
from wrpo.recipe.sampling import Engine

__all__ = ["Completion", "GenerationEngine", "Unanswered", "Request", "load_engine"]


def load_engine(model: str, *, engine: Engine, **arguments: Any) -> GenerationEngine:
    """The engine that `engine.backend` names; see `VLLMEngine` for the arguments.

    Raises:
        RecipeError: the settings do not fit this backend.
        ModelError: the model cannot be loaded, or a package is missing.
    """
    if engine.backend == "openai":
        try:
            from wrpo.engines.openai import OpenAIEngine
        except ImportError as error:
            raise ModelError(f"{error}; install it: pip install 'wrpo[server]'") from error

        return OpenAIEngine(model, engine=engine, **arguments)
    if engine.backend == "transformers":
        from wrpo.engines.transformers import TransformersEngine

        return TransformersEngine(model, engine=engine, **arguments)
    from wrpo.engines.vllm import VLLMEngine

    return VLLMEngine(model, engine=engine, **arguments)

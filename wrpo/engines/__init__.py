"""Inference engines: each takes requests and yields completions as they finish.

One file per backend, with its settings and its behaviour; a recipe's `engine.backend` names it.
"""

from wrpo.engines.base import (
    Completion,
    EngineSettings,
    GenerationEngine,
    GenerationTask,
    Request,
    Unanswered,
)

__all__ = [
    "Completion",
    "EngineSettings",
    "GenerationEngine",
    "GenerationTask",
    "Request",
    "Unanswered",
]

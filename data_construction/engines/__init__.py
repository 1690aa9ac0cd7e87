"""Inference engines: each takes token ids and yields completions as they finish."""

from data_construction.engines.base import Completion, GenerationEngine, Request

__all__ = ["Completion", "GenerationEngine", "Request"]

"""How fast a source was sampled on this machine, kept where `python -m wrpo plan` looks for it."""

from __future__ import annotations

import logging
import time

from wrpo.engines import EngineSettings
from wrpo.errors import WRPOError
from wrpo.plan.inputs import measured_name
from wrpo.plan.throughput import Measured, device, record
from wrpo.recipe import Recipe

logger = logging.getLogger(__name__)


class MeasuredSpeed:
    """Counts what passes through one engine; servers are left out, which run on other machines."""

    def __init__(self, recipe: Recipe, source: str, engine: EngineSettings) -> None:
        self._recipe = recipe
        self._source = source
        self._engine = engine
        self.start()

    def start(self) -> None:
        """Begins to count; call it when the engine is loaded."""
        self._started = time.monotonic()
        self._prompts = self._prompt_tokens = self._responses = self._response_tokens = 0

    def prompt(self, tokens: int) -> None:
        """A prompt went to the engine."""
        self._prompts += 1
        self._prompt_tokens += tokens

    def response(self, tokens: int) -> None:
        """A response came back."""
        self._responses += 1
        self._response_tokens += tokens

    def keep(self) -> None:
        """Adds what was counted to RUNS/throughput.yaml; a failure is but a warning."""
        fused = self._source in self._recipe.fusions  # no speed of one model
        if self._engine.server is not None or fused or not self._response_tokens:
            return
        try:
            record(self._recipe.runs, self._row())
        except (OSError, WRPOError) as error:
            logger.warning("the measured throughput is not kept: %s", error)

    def _row(self) -> Measured:
        return Measured(
            model=measured_name(self._recipe, self._source),
            gpu=device(),
            gpus=self._engine.capacity.gpus,
            prompts=self._prompts,
            prompt_tokens=self._prompt_tokens,
            responses=self._responses,
            response_tokens=self._response_tokens,
            seconds=max(time.monotonic() - self._started, 1e-3),
        )

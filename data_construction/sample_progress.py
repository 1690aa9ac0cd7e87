"""One progress bar for a sampling stage, whoever samples it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

    from data_construction.part_sampler import PartSampler


class AnswerBar:
    """Answers done of those to do, with tokens per second; called with (answers, tokens)."""

    def __init__(self, sampler: PartSampler, todo: Sequence[int]) -> None:
        self._total = sum(sampler.answers(part) for part in todo)
        self._stage = sampler.stage
        self._tokens = 0

    def __enter__(self) -> AnswerBar:
        from tqdm import tqdm

        self._bar: tqdm[Any] = tqdm(total=self._total, unit="answer", desc=self._stage)
        self._started = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def __call__(self, answers: int, tokens: int) -> None:
        self._tokens += tokens
        speed = self._tokens / max(time.monotonic() - self._started, 1e-9)
        self._bar.set_postfix_str(f"{speed:,.0f} tokens/s", refresh=False)
        self._bar.update(answers)

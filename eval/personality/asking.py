"""Asks a judge; what cannot be read is asked for once more, and then is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from wrpo.judging import JudgeRequest, Verdict
from wrpo.judging.reading import VerdictForm


class AskJudge(Protocol):
    """What the protocols need of a judge; `wrpo.judging.Judge.ask` is one."""

    def __call__(self, requests: Sequence[JudgeRequest], /) -> list[Verdict]: ...


@dataclass
class CountedReplies:
    """Reads replies of one judge, and counts those that say nothing.

    Attributes:
        asked: questions.
        again: of them, those that had to be asked twice.
        unparsed: of them, those without an answer.
    """

    ask: AskJudge
    asked: int = 0
    again: int = 0
    unparsed: int = 0

    def read(
        self, requests: Sequence[JudgeRequest], form: VerdictForm
    ) -> list[tuple[float | None, str]]:
        """The number in each reply, None where there is none, and the reply."""
        verdicts = self.twice(requests, lambda _, verdict: _number(form, verdict) is not None)
        return [(_number(form, verdict), verdict.answer) for verdict in verdicts]

    def twice(
        self, requests: Sequence[JudgeRequest], usable: Callable[[int, Verdict], bool]
    ) -> list[Verdict]:
        """The replies; those that are of no use are asked for once more, under the next seed.

        Args:
            usable: whether the reply to the request at a place can be used.
        """
        self.asked += len(requests)
        verdicts = list(self.ask(requests)) if requests else []
        missing = [place for place, one in enumerate(verdicts) if not usable(place, one)]
        self.again += len(missing)
        seeded = [
            replace(requests[place], seed=(requests[place].seed or 0) + 1) for place in missing
        ]
        for place, verdict in zip(missing, self.ask(seeded) if seeded else [], strict=True):
            verdicts[place] = verdict
        self.unparsed += sum(not usable(place, verdicts[place]) for place in missing)
        return verdicts


def _number(form: VerdictForm, verdict: Verdict) -> float | None:
    read = form.read(verdict)
    return read if isinstance(read, float) else None

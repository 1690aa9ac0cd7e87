"""Asks a judge; what cannot be read is asked for once more, and then is missing."""

from __future__ import annotations

from collections.abc import Sequence
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
        self.asked += len(requests)
        verdicts = list(self.ask(requests)) if requests else []
        found = [(_number(form, one), one.answer) for one in verdicts]
        missing = [place for place, (number, _) in enumerate(found) if number is None]
        self.again += len(missing)
        seeded = [replace(requests[place], seed=1) for place in missing]
        for place, verdict in zip(missing, self.ask(seeded) if seeded else [], strict=True):
            found[place] = _number(form, verdict), verdict.answer
        self.unparsed += sum(number is None for number, _ in found)
        return found


def _number(form: VerdictForm, verdict: Verdict) -> float | None:
    read = form.read(verdict)
    return read if isinstance(read, float) else None

"""Who makes what: work is pulled, comes back from lost workers, and is not given out for ever."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple


class Loss(NamedTuple):
    """What a lost worker had in hand, and the unit among it that has lost too many."""

    units: list[int]
    deadly: int | None


class PartQueue:
    """The units of one job that are still to be made, by number.

    A worker may have several units in hand, and when it is lost any of them may be the reason. So
    these come last, and each goes alone to a worker that has nothing else in hand: a second loss
    has one culprit.

    Args:
        units: in the order in which they are given out.
        attempts: how many workers a unit may lose.
    """

    def __init__(self, units: Iterable[int], *, attempts: int) -> None:
        self._fresh = deque(units)
        self._suspects: deque[int] = deque()
        self._attempts = attempts
        self._in_hand: dict[str, set[int]] = {}
        self._losses: dict[int, int] = {}
        self._unfinished = set(self._fresh)
        self._given_up = False

    @property
    def closed(self) -> bool:
        """Whether nothing will be given out any more: all is made, or one unit is given up."""
        return self._given_up or not self._unfinished

    def in_hand(self, worker: str) -> set[int]:
        """What a worker has taken and not finished."""
        return set(self._in_hand.get(worker, ()))

    def take(self, worker: str) -> int | None:
        """The next unit for this worker; None while there is none that it should get."""
        mine = self._in_hand.setdefault(worker, set())
        if self._given_up or any(unit in self._losses for unit in mine):
            return None
        if self._fresh:
            unit = self._fresh.popleft()
        elif self._suspects and not mine:
            unit = self._suspects.popleft()
            if unit not in self._unfinished:  # a worker that was thought lost has made it
                return self.take(worker)
        else:
            return None
        mine.add(unit)
        return unit

    def done(self, worker: str, unit: int) -> None:
        """A worker has finished a unit."""
        self._in_hand.get(worker, set()).discard(unit)
        self._unfinished.discard(unit)

    def lost(self, worker: str) -> Loss:
        """Takes back what a lost worker had in hand; after a deadly unit nothing is given out."""
        units = sorted(self._in_hand.pop(worker, set()) & self._unfinished)
        for unit in units:
            self._losses[unit] = self._losses.get(unit, 0) + 1
            self._suspects.append(unit)
        deadly = [unit for unit in units if self._losses[unit] >= self._attempts]
        self._given_up = self._given_up or bool(deadly)
        return Loss(units, deadly[0] if deadly else None)

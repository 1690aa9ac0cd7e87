"""Which of the explored prompts are taken, and how well they cover the tasks."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from data_construction.exploring.tree import ExploredTask

Drawn = list[tuple[ExploredTask, str]]


def even_shares(counts: Sequence[int], total: int) -> list[int]:
    """Whole numbers that add up to `total`, as even as the counts allow.

    Every task gives one before any gives two, and none gives more than it has; a rest goes to those
    that come first. In the published code each task in turn gives its share and one more, until
    enough are there, so that early tasks give too much.

    >>> even_shares([5, 1, 5], 7)
    [3, 1, 3]
    """
    given = [0] * len(counts)
    left = min(total, sum(counts))
    while left:
        open_ = [n for n, count in enumerate(counts) if given[n] < count]
        each = max(1, left // len(open_))
        for n in open_:
            more = min(each, counts[n] - given[n], left)
            given[n] += more
            left -= more
    return given


def draw_prompts(tasks: Sequence[ExploredTask], count: int, *, seed: int) -> Drawn:
    """Prompts without replacement, spread evenly over the tasks; fewer where there are not enough.

    The order of the tasks is drawn, so that no level comes first where the number does not divide.
    """
    draw = random.Random(seed)
    order = draw.sample(list(tasks), len(tasks))
    given = even_shares([len(task.prompts) for task in order], count)
    chosen = {
        id(task): draw.sample(task.prompts, number)
        for task, number in zip(order, given, strict=True)
    }
    return [(task, prompt) for task in tasks for prompt in chosen[id(task)]]


def coverage(drawn: Drawn) -> dict[str, float]:
    """How many tasks the prompts are of, and how evenly.

    `effective_tasks` is exp of the entropy of their shares: so many tasks of equal share have it.
    `openings` counts distinct first two words.
    """
    counts: dict[tuple[str, ...], int] = {}
    for task, _ in drawn:
        counts[task.path] = counts.get(task.path, 0) + 1
    total = max(1, len(drawn))
    entropy = -math.fsum(n / total * math.log(n / total) for n in counts.values())
    openings = {tuple(prompt.lower().split()[:2]) for _, prompt in drawn}
    return {
        "tasks": float(len(counts)),
        "effective_tasks": math.exp(entropy),
        "openings": float(len(openings)),
    }

"""Schedules of alpha, the weight of the source response."""

import math
from typing import Literal, get_args

from wrpo.errors import RecipeError

AlphaSchedule = Literal["linear", "cosine", "constant"]
SCHEDULES: tuple[str, ...] = get_args(AlphaSchedule)


def alpha_at(schedule: str, *, start: float = 0.0, end: float, step: int, max_steps: int) -> float:
    """Value of alpha for the update that follows `step` finished optimizer steps.

    With t = step / max_steps, at most 1, and 0 while `max_steps` is 0:

    linear      start + (end - start) * t
    cosine      start + (end - start) * (1 - cos(pi * t)) / 2: slow at both ends
    constant    end

    The first update uses `start`; `end` would follow the last one. The value depends on nothing but
    the arguments, so a resumed run continues where the interrupted one stopped.

    Source: WRPO (arXiv 2412.03187), fusion coefficient with linear growth from 0; its published
    code has linear and constant.

    Raises:
        RecipeError: `schedule` is unknown.
    """
    t = min(1.0, step / max_steps) if max_steps > 0 else 0.0
    if schedule == "constant":
        return end
    if schedule == "linear":
        return start + (end - start) * t
    if schedule == "cosine":
        return start + (end - start) * (1.0 - math.cos(math.pi * t)) / 2.0
    raise RecipeError(f"alpha_schedule is {schedule!r}; choose one of {', '.join(SCHEDULES)}")

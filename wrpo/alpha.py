"""Schedules of alpha, the weight of the source response."""

from typing import Literal, get_args

from wrpo.errors import RecipeError

AlphaSchedule = Literal["linear", "constant"]
SCHEDULES: tuple[str, ...] = get_args(AlphaSchedule)


def alpha_at(schedule: str, *, alpha: float, step: int, max_steps: int) -> float:
    """Value of alpha for the update that follows `step` finished optimizer steps.

    `"linear"` rises from 0 at the first update towards `alpha`, which it would reach after the
    last one: `alpha * step / max_steps`, and 0 while `max_steps` is 0. `"constant"` is `alpha`
    throughout. The value depends on nothing but its arguments, so a resumed run continues where the
    interrupted one stopped.

    Source: WRPO (arXiv 2412.03187), fusion coefficient with linear growth.

    Raises:
        RecipeError: `schedule` is unknown.
    """
    if schedule == "constant":
        return alpha
    if schedule == "linear":
        return alpha * min(1.0, step / max_steps) if max_steps > 0 else 0.0
    raise RecipeError(f"alpha_schedule is {schedule!r}; choose one of {', '.join(SCHEDULES)}")

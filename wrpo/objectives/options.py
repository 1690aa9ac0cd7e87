"""Names and limits of the loss options, apart from torch so that recipes are checked at once."""

import math
from typing import Literal, get_args

from wrpo.errors import RecipeError

PreferenceLoss = Literal["sigmoid", "sigmoid_norm", "hinge", "ipo"]
LOSSES: tuple[str, ...] = get_args(PreferenceLoss)
LENGTH_NORMALISED = frozenset({"sigmoid_norm", "ipo"})

FusionRule = Literal["max_margin", "average", "confidence"]
LikelihoodOn = Literal["source_chosen", "chosen", "better", "both"]


def loss_problem(loss: str, *, margin: float, label_smoothing: float) -> str | None:
    """Why the options do not go together, or None."""
    if loss not in LOSSES:
        return f"loss is {loss!r}; choose one of {', '.join(LOSSES)}"
    if loss == "ipo" and margin:
        return f"margin is {margin}, but the ipo loss has its own; set margin to 0"
    if loss in ("ipo", "hinge") and label_smoothing:
        return (
            f"label_smoothing is {label_smoothing}, which the {loss} loss does not have; set it to "
            "0, or choose sigmoid or sigmoid_norm"
        )
    if not 0.0 <= label_smoothing < 0.5:
        return (
            f"label_smoothing is {label_smoothing}; it is the share of flipped preferences and "
            "must lie in [0, 0.5)"
        )
    return None


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

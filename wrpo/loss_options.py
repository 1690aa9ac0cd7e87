"""Names and limits of the loss options, apart from torch so that recipes are checked at once."""

from typing import Literal, get_args

from wrpo.errors import RecipeError

PreferenceLoss = Literal["sigmoid", "sigmoid_norm", "hinge", "ipo"]
LOSSES: tuple[str, ...] = get_args(PreferenceLoss)
LENGTH_NORMALISED = frozenset({"sigmoid_norm", "ipo"})

LikelihoodOn = Literal["source_chosen", "chosen", "better", "both"]
LIKELIHOOD_TARGETS: tuple[str, ...] = get_args(LikelihoodOn)


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


def check_loss(loss: str, *, margin: float, label_smoothing: float) -> None:
    """Raise RecipeError for options that do not go together."""
    if problem := loss_problem(loss, margin=margin, label_smoothing=label_smoothing):
        raise RecipeError(problem)


def check_unit_interval(name: str, value: float) -> None:
    """Raise RecipeError unless 0 <= value <= 1."""
    if not 0.0 <= value <= 1.0:
        raise RecipeError(f"{name} is {value}; it is a weight and must lie in [0, 1]")

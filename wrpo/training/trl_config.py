"""TRL config and trainer of a stage: refusals are one error, and no option is without effect."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from wrpo.errors import RecipeError, WRPOError

if TYPE_CHECKING:
    from transformers import Trainer


def make_config(config: Callable[..., Any], arguments: dict[str, Any], *, where: str) -> Any:
    """Builds a TRL config for one device per process.

    where: the key of the recipe that an error names, e.g. "sft.train".

    Raises:
        RecipeError: TRL refuses a value, or this machine lacks what it needs.
    """
    from wrpo.training.batches.slicing import use_one_device

    with refusals(where):
        args = config(**arguments)
    use_one_device(args)
    if args.use_liger_kernel and find_spec("liger_kernel") is None:
        raise RecipeError(
            f"{where}.use_liger_kernel is true, but liger-kernel is not installed; pip install "
            "liger-kernel, or leave it out"
        )
    if getattr(args, "activation_offloading", False) and args.device.type == "cpu":
        raise RecipeError(
            f"{where}.activation_offloading is true, but there is no accelerator whose memory it "
            "would save; leave it out"
        )
    return args


@contextmanager
def refusals(where: str) -> Iterator[None]:
    """What TRL and transformers refuse while a config or a trainer is made is a recipe error."""
    try:
        yield
    except WRPOError:
        raise
    except (TypeError, ValueError, ImportError, NotImplementedError) as error:
        raise RecipeError(f"{where}: {error}") from error


def require_effect(trainer: Trainer, *, where: str) -> None:
    """Checks the optimizer and the schedule of a trainer before it loads or trains anything.

    Raises:
        RecipeError: one of them cannot be made with its options, its package is not installed, or
            it has no use for `optim_args` or `optim_target_modules`.
    """
    args: Any = trainer.args
    with refusals(where):
        chosen = _optimizer(trainer, args)
        _try_schedule(args)
    for option in ("optim_args", "optim_target_modules"):
        value = getattr(args, option)
        if value and _optimizer(trainer, args, **{option: None}) == chosen:
            raise RecipeError(
                f"{where}.{option} is {value!r}, which changes nothing for optim "
                f"{args.optim.value}; leave it out, or choose an optimizer that reads it"
            )


def _optimizer(trainer: Trainer, args: Any, **changes: Any) -> tuple[Any, Any]:
    other = copy.copy(args)
    for option, value in changes.items():
        setattr(other, option, value)
    try:
        return trainer.get_optimizer_cls_and_kwargs(other, trainer.model)
    except ValueError:
        if not changes:
            raise
        return None, None  # it cannot do without


def _try_schedule(args: Any) -> None:
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=args.learning_rate or 1.0)
    get_scheduler(
        args.lr_scheduler_type,
        optimizer,
        num_warmup_steps=1,
        num_training_steps=10,
        scheduler_specific_kwargs=args.lr_scheduler_kwargs,
    )

"""What would cut a batch of WRPOTrainer into pieces, and what is done about each.

A batch holds several rows per prompt, or packed rows of several prompts, so that a cut along the
first dimension of its tensors, or along their tokens, gives wrong losses without an error. Only the
collator knows where one prompt ends. `SLICERS` is the whole list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from accelerate.logging import get_logger

from wrpo.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import TrainingArguments

logger = get_logger(__name__)


class Slicer(NamedTuple):
    """Something that divides ready batches.

    Attributes:
        option: its option, as `section.name` of the training arguments.
        harmless: the values that divide nothing.
        way_out: what to do instead.
    """

    option: str
    harmless: tuple[Any, ...]
    way_out: str


_SHARD_INSTEAD = "set it to 1 and use FSDP or DeepSpeed, which shard parameters"
SLICERS = (
    Slicer(
        "accelerator_config.dispatch_batches",
        (None, False),
        "leave it out: each process reads and collates its own rows",
    ),
    Slicer("parallelism_config.cp_size", (None, 1), _SHARD_INSTEAD),
    Slicer("parallelism_config.sp_size", (None, 1), _SHARD_INSTEAD),
    Slicer("parallelism_config.tp_size", (None, 1), _SHARD_INSTEAD),
)
"""What is refused. Of the others, accelerate's `split_batches` divides row numbers before they are
collated, and torch.nn.DataParallel is kept away by `use_one_device`."""


def refuse_slicing(args: Any, *, parallelism: Any = None) -> None:
    """Raise RecipeError for an option by which others cut ready batches.

    args: the training arguments.
    parallelism: accelerate's parallelism config where there is one already; its launcher may set it
        by environment variables.
    """
    sections = {
        "accelerator_config": args.accelerator_config,
        "parallelism_config": parallelism or args.parallelism_config,
    }
    for slicer in SLICERS:
        section, _, name = slicer.option.partition(".")
        value = getattr(sections[section], name, None)
        if value not in slicer.harmless:
            raise RecipeError(
                f"{slicer.option} is {value}, which cuts batches that only WRPOTrainer can divide; "
                f"{slicer.way_out}"
            )


def take_whole_batches(args: Any) -> None:
    """Settles before the trainer is made that nothing cuts its batches.

    Unset, accelerate reads streamed rows on the first process and cuts its batches for the others;
    here each process reads its own.

    Raises:
        RecipeError: an option would cut them.
    """
    refuse_slicing(args)
    if args.accelerator_config.dispatch_batches is None:
        args.accelerator_config.dispatch_batches = False
    use_one_device(args)


def use_one_device(args: TrainingArguments) -> None:
    """Keeps a process that sees several GPUs to one of them.

    transformers would wrap the model into torch.nn.DataParallel, which cuts batches, and multiplies
    the rows of an optimizer step by the number of GPUs.
    """
    if args.n_gpu > 1:
        logger.warning(
            f"{args.n_gpu} GPUs are visible and this process trains on one of them; to train on "
            "all, start it under accelerate launch (engine.accelerate in a recipe)"
        )
        args._n_gpu = 1


def require_whole(inputs: Mapping[str, Tensor], *, padded: bool) -> None:
    """Raise RecipeError for a batch that lost rows since it was collated.

    padded: whether each row holds one response.
    """
    rows, responses = inputs["input_ids"].shape[0], inputs["lengths"].numel()
    if padded and rows != responses:
        raise RecipeError(
            f"a batch has {rows} rows for {responses} responses: something between the data loader "
            "and WRPOTrainer cut its tensors; leave it out, or hand the trainer a data_collator "
            "whose batches can be cut"
        )

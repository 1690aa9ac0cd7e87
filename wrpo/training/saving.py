"""Saves a trained model as one ordinary model folder, however its weights are distributed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wrpo.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import BitsAndBytesConfig, Trainer

_PEFT_PREFIX = "base_model.model."


def save_model(trainer: Trainer, path: Path, *, load_base: Callable[[], Any] | None = None) -> None:
    """Writes weights, with adapters merged into them, and tokenizer; every process must call it.

    Afterwards a model with adapters cannot train on.

    load_base: loads in full precision what is quantised in training; needed if it is.
    """
    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    if load_base is not None and getattr(policy, "is_quantized", False):
        if trainer.is_world_process_zero():
            save_merged_into(load_base(), trainer, path)
    elif hasattr(policy, "merge_and_unload"):
        _save_merged(trainer, path)
    else:
        trainer.save_model(str(path))
    if trainer.is_world_process_zero():
        tokenizer: Any = trainer.processing_class
        tokenizer.save_pretrained(path)


def _save_merged(trainer: Trainer, path: Path) -> None:
    # Not merge_and_unload, which needs the whole model on the process that calls it.
    from peft.tuners.tuners_utils import BaseTunerLayer

    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    for layer in policy.modules():
        if isinstance(layer, BaseTunerLayer):
            with _whole(layer):
                layer.merge()
    base = policy.unload()
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        weights = {name.removeprefix(_PEFT_PREFIX): value for name, value in state.items()}
        base.save_pretrained(path, state_dict=weights)


@contextmanager
def _whole(layer: Any) -> Iterator[None]:
    """Undoes the partitioning of one layer under ZeRO-3; FSDP2's parameters merge as they are."""
    parameters = list(layer.parameters())
    if not any(hasattr(parameter, "ds_id") for parameter in parameters):
        yield
        return
    import deepspeed

    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0):
        yield


def quantization_config(kind: str | None) -> BitsAndBytesConfig | None:
    """transformers' config of "nf4" or "int8" weights; None for None.

    Raises:
        ModelError: bitsandbytes is not installed.
        RecipeError: the weights are to be sharded.
    """
    if kind is None:
        return None
    import torch
    from transformers import BitsAndBytesConfig
    from transformers.modeling_utils import is_deepspeed_zero3_enabled, is_fsdp_enabled

    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f"lora.quantize is {kind}, but bitsandbytes is not installed; pip install "
            "wrpo[qlora], or leave lora.quantize out"
        )
    if is_deepspeed_zero3_enabled() or is_fsdp_enabled():
        raise RecipeError(
            f"lora.quantize is {kind}, which needs whole weights on every device; choose an "
            "accelerate config with DDP or ZeRO-2, or leave lora.quantize out"
        )
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def save_merged_into(base: Any, trainer: Trainer, path: Path) -> None:
    """Writes `base`, the same model in full precision, with the trained adapters merged into it.

    Merged into the quantised weights, the adapters would be rounded to their few levels.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    policy: Any = trainer.accelerator.unwrap_model(trainer.model)
    whole = get_peft_model(base, policy.peft_config["default"])
    set_peft_model_state_dict(whole, get_peft_model_state_dict(policy))
    whole.merge_and_unload().save_pretrained(path)

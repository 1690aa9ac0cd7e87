"""Quantised base weights under adapters (QLoRA, arXiv 2305.14314), by bitsandbytes."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from wrpo.errors import ModelError, RecipeError

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import BitsAndBytesConfig, Trainer


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

"""`engine.attention` of a recipe: the attention that a model is loaded and trained with."""

from __future__ import annotations

import logging
from typing import Any

from wrpo.errors import RecipeError
from wrpo.training.settings import AUTO

logger = logging.getLogger(__name__)

TORCH_KERNEL = "varlen"
"""torch's variable-length kernel, which transformers has no name for."""


def loaded_with(attention: str | None) -> str | None:
    """What transformers is asked for; None leaves the choice to it."""
    if attention in (None, AUTO):
        return None
    if attention == TORCH_KERNEL:
        from wrpo.prefix.varlen_attention import VARLEN

        return VARLEN
    return attention


def settle_attention(model: Any, attention: str | None, *, device: Any, half: Any = None) -> None:
    """Gives a model that trains on plain or packed rows torch's kernel, where it runs.

    half: dtype of mixed precision; None trains in that of the weights.

    Raises:
        RecipeError: the recipe asks for the kernel, and this model or device cannot have it.
    """
    from wrpo.prefix.varlen_attention import VARLEN, kernel_refusal

    if attention not in (None, AUTO, TORCH_KERNEL):
        return
    reason = kernel_refusal(model, device=device, dtype=half or model.dtype)
    if reason is None:
        model.config._attn_implementation = VARLEN
    elif attention == TORCH_KERNEL:
        raise RecipeError(f"engine.attention is {TORCH_KERNEL}, but {reason}; set it to auto")
    elif device.type == "cuda":
        logger.info("attention: %s, because %s", model.config._attn_implementation, reason)


def mixed_dtype(args: Any) -> Any:
    """The dtype that training arguments mix in; None without mixed precision."""
    import torch

    return torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None

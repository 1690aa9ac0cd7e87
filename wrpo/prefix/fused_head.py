"""Forward passes through TRL's fused LM head, which give per-token log-probs instead of logits."""

from collections.abc import Mapping
from typing import Any

from accelerate.utils import is_peft_model
from torch import Tensor

from wrpo.collator import model_inputs


def causal_model(model: Any) -> Any:
    """The language model itself, below adapters; `model` is not wrapped for distribution."""
    return model.get_base_model() if is_peft_model(model) else model


def fused_pass(model: Any, batch: Mapping[str, Tensor], *, bare: Any = None) -> Any:
    """TRL's outputs (log_probs, entropy) for a collated batch.

    The head is kept from balancing a mixture of experts by itself; `wrpo.prefix.moe_aux_loss` does
    it.

    bare: the model below what wraps it for distribution, if anything does.
    """
    config = (model if bare is None else bare).config.get_text_config()
    has_router = hasattr(config, "output_router_logits")
    options = {"output_router_logits": False} if has_router else {}
    return model(**model_inputs(batch), **options, use_cache=False, fused_lm_head=True)

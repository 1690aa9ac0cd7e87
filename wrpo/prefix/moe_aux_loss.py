"""Load-balancing loss of a mixture of experts over batches in which a token stands for several.

The loss is a function of which experts the tokens of a batch choose. TRL's LM head counts tokens by
the attention mask, which in `wrpo.prefix.packing` is a segment table; here they are counted by
weights, so that a prompt that is forwarded once counts once per response.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from wrpo.errors import ModelError
from wrpo.prefix.fused_head import causal_model


@dataclass
class Balance:
    """Balancing loss of the last forward pass, a scalar; unset before it."""

    loss: Tensor | None = None


@contextmanager
def balancing_loss(model: Any, weights: Tensor | None) -> Iterator[Balance]:
    """Adds the balancing loss to the forward passes inside.

    model: a causal language model or its PEFT wrapper, not wrapped for distribution.
    weights: (rows, tokens) responses that each token belongs to, 0 for padding; None is all 1.

    The passes must not ask for router logits themselves: see `wrpo.prefix.fused_head.fused_pass`.

    Raises:
        ModelError: the model gives no router logits.

    Source: Switch Transformer (arXiv 2101.03961), equations (4) to (6), summed over the experts
    of a token.
    """
    causal = causal_model(model)
    experts_per_token = causal.config.get_text_config().num_experts_per_tok
    balance = Balance()

    def ask(_: Any, args: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**options, "output_router_logits": True}

    def response(_: Any, __: Any, output: Any) -> None:
        logits = getattr(output, "router_logits", None)
        if not logits:
            raise ModelError(
                f"{type(causal).__name__} gives no router logits to balance its experts by; set "
                "router_aux_loss_coef: 0"
            )
        if torch.is_grad_enabled() and not any(layer.requires_grad for layer in logits):
            warnings.warn(
                "the balancing loss trains nothing: reentrant checkpointing keeps no gradient of "
                "the router logits; set gradient_checkpointing_kwargs: {use_reentrant: false}",
                stacklevel=2,
            )
        experts = logits[0].shape[-1]
        balance.loss = load_balancing_loss_func(logits, experts, experts_per_token, weights)

    # On the backbone: PEFT calls the forward method of the causal model past its hooks.
    hooks = [
        causal.base_model.register_forward_pre_hook(ask, with_kwargs=True),
        causal.base_model.register_forward_hook(response),
    ]
    try:
        yield balance
    finally:
        for hook in hooks:
            hook.remove()

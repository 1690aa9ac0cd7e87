"""Which layout a model can train with: static rules, then a trial of both on two triples."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from accelerate.utils import is_peft_model
from torch import Tensor
from transformers.modeling_flash_attention_utils import flash_attn_supports_top_left_mask
from transformers.modeling_utils import is_deepspeed_zero3_enabled, is_fsdp_enabled

from wrpo.collator import (
    BatchLayout,
    DataCollatorForWRPO,
    by_response,
    padded_layout,
)
from wrpo.errors import RecipeError
from wrpo.prefix.attention import FLASH, SDPA, attach_scored_only
from wrpo.prefix.fused_head import fused_pass
from wrpo.prefix.packing import PackedLayout
from wrpo.rows.columns import TRIPLE_RESPONSES

logger = get_logger(__name__)

# Compared in float32 with the padded layout, values and gradients, by the tests.
TESTED_MODELS = frozenset(
    {
        *("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "phi3"),
        *("mixtral", "qwen3_moe"),
    }
)
_LAYER_TYPES = {"full_attention", "sliding_attention"}


@dataclass(frozen=True)
class LayoutOptions:
    """What the caller asks of a layout, and what its forward passes will be like.

    layout: "auto", "prefix" or "padded".
    row_tokens: most tokens of a row in the prefix layout; None is one row per batch.
    max_length: most tokens of a prompt and one response; None is no limit.
    dropout: whether dropout is active.
    """

    layout: str = "auto"
    row_tokens: int | None = None
    max_length: int | None = None
    dropout: bool = False


def settle_layout(
    models: Sequence[Any], wishes: LayoutOptions, *, accelerator: Accelerator
) -> BatchLayout:
    """The layout to collate with; gives the models the attention that it needs.

    models: the policy, then the reference if there is one.

    Raises:
        RecipeError: `wishes.layout` is "prefix" and the model cannot; says why.
    """
    if wishes.layout == "padded":
        return padded_layout
    bare = [accelerator.unwrap_model(model) for model in models]
    layout = PackedLayout(wishes.row_tokens, scored_only=accelerator.device.type != "cuda")
    reason = reason_not_supported(bare[0], wishes) or _try(bare, layout, accelerator=accelerator)
    if reason is None:
        return layout
    if wishes.layout == "prefix":
        raise RecipeError(
            f"triple_layout is prefix, but {reason}; set triple_layout: auto, or padded"
        )
    logger.warning(f"triple_layout: padded, because {reason}")
    return padded_layout


def reason_not_supported(model: Any, wishes: LayoutOptions) -> str | None:
    """Why a model cannot share prompts, as far as its config shows."""
    config = model.config
    text = config.get_text_config()
    implementation = config._attn_implementation
    other_layers = set(getattr(text, "layer_types", None) or ()) - _LAYER_TYPES
    window = getattr(text, "sliding_window", None)
    if is_peft_model(model) and any(c.is_prompt_learning for c in model.peft_config.values()):
        return "prompt-learning adapters put virtual tokens in front of every row"
    if text is not config:
        return f"{config.model_type} is more than a language model"
    if getattr(text, "router_jitter_noise", 0):
        return "router_jitter_noise is set and responses would share the noise of their prompt"
    if wishes.dropout:
        return "disable_dropout is off and responses would share the dropout of their prompt"
    if _attention_for(implementation) is None:
        return f"attention implementation {implementation} has no shared-prompt variant"
    if _attention_for(implementation) == FLASH and flash_attn_supports_top_left_mask():
        return "this flash-attn aligns causality to the first key; update it to 2.1 or later"
    if other_layers:
        return f"it has layers of type {', '.join(sorted(other_layers))}"
    if any(name.endswith("sinks") for name, _ in model.named_parameters()):
        return "its attention has learned sinks"
    if window and text.model_type not in TESTED_MODELS and window < (wishes.max_length or 1 << 30):
        return f"its sliding window of {window} is untested for {text.model_type}"
    return None


def _attention_for(implementation: str) -> str | None:
    if implementation in ("sdpa", "eager", SDPA):
        return SDPA
    return FLASH if "flash" in implementation else None


def _try(models: Sequence[Any], layout: BatchLayout, *, accelerator: Accelerator) -> str | None:
    """Switch the models over and compare both layouts; switches back if they differ."""
    policy = models[0]
    text = policy.config.get_text_config()
    weight = next(policy.parameters())
    sharded = is_deepspeed_zero3_enabled() or is_fsdp_enabled()
    runs_here = weight.device.type == accelerator.device.type and not sharded
    if not runs_here and text.model_type not in TESTED_MODELS:
        return f"{text.model_type} cannot be tried out before its weights are distributed"
    before = [model.config._attn_implementation for model in models]
    flash = _attention_for(before[0]) == FLASH
    for model in models:
        model.config._attn_implementation = FLASH if flash else SDPA
        attach_scored_only(model)
    context = accelerator.autocast() if flash else nullcontext()
    with context:
        reason = _difference(policy, layout, half=flash) if runs_here else None
    agreed = torch.tensor([reason is None], device=accelerator.device)
    if bool(accelerator.gather(agreed).all()):
        return None
    for model, implementation in zip(models, before, strict=True):
        model.config._attn_implementation = implementation
    return reason or "another process found a difference between the layouts"


@torch.no_grad()
def _difference(model: Any, layout: BatchLayout, *, half: bool) -> str | None:
    """What speaks against `layout` after a trial on two triples; None if it agrees with padding."""
    weight = next(model.parameters())
    quantized = getattr(model, "is_quantized", False)
    half = half or quantized or weight.dtype in (torch.float16, torch.bfloat16)
    relative, absolute = (2e-2, 2e-1) if half else (1e-6, 2e-4)
    training = model.training
    model.eval()
    try:
        padded, packed = (_log_probs(model, way, weight.device) for way in (padded_layout, layout))
    except Exception as error:  # whatever an unknown architecture makes of unknown arguments
        return f"it fails on packed rows ({type(error).__name__}: {error})"
    finally:
        model.train(training)
    distance = (padded - packed).abs()
    if (distance <= relative * padded.abs() + absolute).all():
        return None
    return f"its log-probabilities differ from the padded layout by {distance.max().item():.2g}"


def _log_probs(model: Any, layout: BatchLayout, device: torch.device) -> Tensor:
    vocabulary = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)

    def tokens(count: int) -> list[int]:
        return torch.randint(vocabulary, (count,), generator=generator).tolist()

    rows = [
        {"prompt_ids": tokens(p), **{f"{name}_ids": tokens(p % 5 + 3) for name in TRIPLE_RESPONSES}}
        for p in (13, 6)
    ]
    batch = DataCollatorForWRPO(pad_token_id=0, layout=layout)(rows)
    batch = {name: value.to(device) for name, value in batch.items()}
    return by_response(fused_pass(model, batch).log_probs, batch)

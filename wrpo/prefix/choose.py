"""Which layout and attention a model trains with: rules, a trial on two triples, a stopwatch."""

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
    Example,
    by_response,
    padded_layout,
)
from wrpo.errors import RecipeError
from wrpo.prefix.attention import FLASH, SDPA, attach_scored_only
from wrpo.prefix.flex_attention import FLEX, flex_refusal
from wrpo.prefix.fused_head import fused_pass
from wrpo.prefix.left_out import between_positions, complete_attention, has_sinks
from wrpo.prefix.packing import PackedLayout
from wrpo.prefix.timed_trial import Way, fastest, usual_rows
from wrpo.prefix.varlen_attention import HALF, VARLEN, kernel_refusal
from wrpo.rows.columns import TRIPLE_RESPONSES

logger = get_logger(__name__)

# Compared in float32 with the padded layout, values and gradients, by the tests.
TESTED_MODELS = frozenset(
    {
        *("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "phi3"),
        *("mixtral", "qwen3_moe", "gpt_oss"),
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
    trains: whether the forward passes are followed by backward passes.
    checkpointing: whether these compute activations again.
    responses: of each row, in the order of the collator.
    """

    layout: str = "auto"
    row_tokens: int | None = None
    max_length: int | None = None
    dropout: bool = False
    trains: bool = False
    checkpointing: bool = False
    responses: Sequence[str] = TRIPLE_RESPONSES


def settle_layout(
    models: Sequence[Any],
    wishes: LayoutOptions,
    *,
    accelerator: Accelerator,
    rows: Sequence[Example] = (),
) -> BatchLayout:
    """The layout to collate with; gives the models the attention that it needs.

    Of the attention functions that share prompts, the first that agrees with padding is taken:
    torch's variable-length kernel, FlexAttention where that leaves something out, then the loop
    over segments. On a GPU "auto" times them and padding on `rows`, and takes the fastest. None is
    taken that leaves a term of the model's attention out (`wrpo.prefix.left_out`); padded rows get
    another attention where that of the model does.

    models: the policy, then the reference if there is one.
    rows: a typical micro-batch to time; by default four rows like those of UltraFeedback.

    Raises:
        RecipeError: `wishes.layout` is "prefix" and the model cannot; says why.
    """
    bare = [accelerator.unwrap_model(model) for model in models]
    before = [complete_attention(model) for model in bare]
    if wishes.layout == "padded":
        return padded_layout
    layout = PackedLayout(wishes.row_tokens, scored_only=accelerator.device.type != "cuda")
    reason, exact = reason_not_supported(bare[0], wishes), []
    for attention in [] if reason else _candidates(bare[0], accelerator):
        _switch(bare, [attention] * len(bare))
        reason = _try(bare, layout, base=before[0], accelerator=accelerator)
        if reason is None:
            exact.append(Way(layout, attention))
    if wishes.layout == "auto" and exact:
        exact, reason = _fastest(bare[0], exact, before[0], rows, wishes, accelerator)
    if exact:
        _switch(bare, [exact[0].attention] * len(bare))
        return exact[0].layout
    _switch(bare, before)
    if wishes.layout == "prefix":
        raise RecipeError(
            f"triple_layout is prefix, but {reason}; set triple_layout: auto, or padded"
        )
    logger.warning(f"triple_layout: padded, because {reason}")
    return padded_layout


def _fastest(
    policy: Any,
    exact: list[Way],
    base: str,
    rows: Sequence[Example],
    wishes: LayoutOptions,
    accelerator: Accelerator,
) -> tuple[list[Way], str | None]:
    """Of the ways that agree with padding, and padding itself, the fastest on a GPU.

    A CPU is not timed: another layout in another run would change results by rounding, and the
    first way computes the fewest tokens, which decides there. Where a GPU cannot be timed, the loop
    over segments is left out: small kernels may make it slower than padding.
    """
    if accelerator.device.type != "cuda":
        return exact[:1], None
    if not _runs_here(policy, accelerator):
        kept = [way for way in exact if way.attention not in (SDPA, FLEX)]
        return kept[:1], "its attention by segments cannot be timed while weights are distributed"
    names = dict.fromkeys([base, *(way.attention for way in exact if way.attention == VARLEN)])
    ways = [*exact, *(Way(padded_layout, name) for name in names)]
    rows = rows or usual_rows(policy.config.get_text_config().vocab_size, wishes.responses)
    best = fastest(
        policy,
        ways,
        rows,
        responses=wishes.responses,
        trains=wishes.trains,
        checkpointing=wishes.checkpointing,
        accelerator=accelerator,
    )
    return [best], None


def _switch(models: Sequence[Any], attention: Sequence[str]) -> None:
    for model, name in zip(models, attention, strict=True):
        model.config._attn_implementation = name


def attention_that_packs(model: Any, *, device: torch.device, dtype: torch.dtype) -> str | None:
    """The attention of a model for packed rows; None where only the loop would be left to a GPU."""
    if kernel_refusal(model, device=device, dtype=dtype) is None:
        return VARLEN
    return SDPA if device.type != "cuda" else None


def reason_not_supported(model: Any, wishes: LayoutOptions) -> str | None:
    """Why a model cannot share prompts, as far as its config shows."""
    config = model.config
    text = config.get_text_config()
    implementation = config._attn_implementation
    other_layers = set(getattr(text, "layer_types", None) or ()) - _LAYER_TYPES
    window = getattr(text, "sliding_window", None)
    if is_peft_model(model) and any(c.is_prompt_learning for c in model.peft_config.values()):
        return "prompt-learning adapters put virtual tokens in front of every row"
    if (biased := between_positions(model)) is not None:
        return f"responses that share a prompt would lose {biased}"
    dropout: float = getattr(text, "attention_dropout", 0.0) or 0.0
    if wishes.trains and dropout:
        return f"attention_dropout is {dropout} and responses would share that of their prompt"
    if text is not config:
        return f"{config.model_type} is more than a language model"
    if getattr(text, "router_jitter_noise", 0):
        return "router_jitter_noise is set and responses would share the noise of their prompt"
    if wishes.dropout:
        return "disable_dropout is off and responses would share the dropout of their prompt"
    if not _variants(implementation):
        return f"attention implementation {implementation} has no shared-prompt variant"
    if FLASH in _variants(implementation) and flash_attn_supports_top_left_mask():
        return "this flash-attn aligns causality to the first key; update it to 2.1 or later"
    if other_layers:
        return f"it has layers of type {', '.join(sorted(other_layers))}"
    if FLASH in _variants(implementation) and has_sinks(model):
        return "flash-attn would leave its learned sinks out"
    if window and text.model_type not in TESTED_MODELS and window < (wishes.max_length or 1 << 30):
        return f"its sliding window of {window} is untested for {text.model_type}"
    return None


def _variants(implementation: str) -> list[str]:
    """Attention that shares prompts in the place of an implementation, the fastest first."""
    if implementation in ("sdpa", "eager", SDPA, VARLEN, FLEX):
        return [VARLEN, FLEX, SDPA]
    return [FLASH] if "flash" in implementation else []


def _candidates(model: Any, accelerator: Accelerator) -> list[str]:
    """Those that can run on this device in the precision of the training."""
    names = _variants(model.config._attn_implementation)
    dtype = _precision(model, accelerator)
    device = accelerator.device
    reasons = {
        VARLEN: kernel_refusal(model, device=device, dtype=dtype),
        FLEX: flex_refusal(model, device=device),
    }
    if reasons[VARLEN] is None:
        reasons[FLEX] = "variable-length attention starts sooner"
    for name, reason in reasons.items():
        if name in names and reason is not None:
            names.remove(name)
            if device.type == "cuda":
                logger.info(f"attention: not {name}, because {reason}")
    return names


def _precision(model: Any, accelerator: Accelerator) -> torch.dtype:
    """Of what the attention gets."""
    mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)
    dtype: torch.dtype = mixed or next(p.dtype for p in model.parameters() if p.is_floating_point())
    return dtype


def _runs_here(model: Any, accelerator: Accelerator) -> bool:
    sharded = is_deepspeed_zero3_enabled() or is_fsdp_enabled()
    return next(model.parameters()).device.type == accelerator.device.type and not sharded


def _try(
    models: Sequence[Any], layout: BatchLayout, *, base: str, accelerator: Accelerator
) -> str | None:
    """Compares both layouts under the attention that the policy has; the reason against it."""
    policy = models[0]
    text = policy.config.get_text_config()
    runs_here = _runs_here(policy, accelerator)
    if not runs_here and text.model_type not in TESTED_MODELS:
        return f"{text.model_type} cannot be tried out before its weights are distributed"
    for model in models:
        attach_scored_only(model)
    half = policy.config._attn_implementation in (FLASH, VARLEN, FLEX)
    context = accelerator.autocast() if half else nullcontext()
    with context:
        reason = _difference(policy, layout, base=base) if runs_here else None
    agreed = torch.tensor([reason is None], device=accelerator.device)
    if bool(accelerator.gather(agreed).all()):
        return None
    return reason or "another process found a difference between the layouts"


@torch.no_grad()
def _difference(model: Any, layout: BatchLayout, *, base: str) -> str | None:
    """What speaks against `layout` after a trial on two triples; None if it agrees with padding.

    base: attention of padded rows, which leaves nothing out.
    """
    weight, attention = next(model.parameters()), model.config._attn_implementation
    quantized = getattr(model, "is_quantized", False)
    mixed = attention in (VARLEN, FLEX) and torch.is_autocast_enabled(weight.device.type)
    half = mixed or attention == FLASH or quantized or weight.dtype in HALF
    relative, absolute = (2e-2, 2e-1) if half else (1e-6, 2e-4)
    training = model.training
    model.eval()
    try:
        model.config._attn_implementation = SDPA if base in (VARLEN, FLEX) else base
        padded = _log_probs(model, padded_layout, weight.device)
        model.config._attn_implementation = attention
        packed = _log_probs(model, layout, weight.device)
    except Exception as error:  # whatever an unknown architecture makes of unknown arguments
        return f"it fails on packed rows ({type(error).__name__}: {error})"
    finally:
        model.config._attn_implementation = attention
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

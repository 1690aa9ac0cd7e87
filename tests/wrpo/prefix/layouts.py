"""Helpers of the layout tests: rows of random tokens, and both layouts through one model."""

from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from tests.support.tiny_models import tiny_model
from wrpo.collator import BatchLayout, DataCollatorForWRPO, by_response
from wrpo.prefix.attention import SDPA, attach_scored_only
from wrpo.prefix.fused_head import fused_pass
from wrpo.rows.columns import TRIPLE_RESPONSES

# Prompt and response lengths; most are longer than the window of 24 tokens of the tiny models.
LENGTHS = [(30, (20, 35, 8)), (1, (5, 40, 3)), (50, (10, 12, 44))]
GEMMA3 = {
    "vocab_size": 262,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
    "sliding_window": 24,
    "query_pre_attn_scalar": 8,
    "layer_types": ["sliding_attention", "full_attention"],
    "pad_token_id": 0,
}


def token_rows(lengths: Any = LENGTHS, *, seed: int = 0) -> list[dict[str, list[int]]]:
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> list[int]:
        return torch.randint(4, 262, (count,), generator=generator).tolist()

    return [
        {
            "prompt_ids": tokens(prompt),
            **{
                f"{name}_ids": tokens(n)
                for name, n in zip(TRIPLE_RESPONSES, responses, strict=True)
            },
        }
        for prompt, responses in lengths
    ]


def scoring_model(architecture: str, *, lora: bool = False, checkpointing: bool = False) -> Any:
    """A tiny model with TRL's fused LM head and its own attention implementation."""
    if architecture == "gemma3":
        torch.manual_seed(0)
        config = transformers.Gemma3TextConfig(**GEMMA3)
        model: PreTrainedModel = transformers.Gemma3ForCausalLM(config)
    else:
        model = tiny_model(architecture)
    if architecture == "gemma2":
        # The library's sdpa leaves the bound on the scores out; only eager is right.
        model.config._attn_implementation = "eager"
    for name, parameter in model.named_parameters():
        if name.endswith("sinks"):  # as large as scores, so that they matter
            torch.nn.init.uniform_(parameter, -1, 3)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if lora:
        settings = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False)
        torch.manual_seed(1)
        model = get_peft_model(model, settings)
        model.enable_input_require_grads()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


def share_prompts(model: Any, implementation: str = SDPA) -> None:
    model.config._attn_implementation = implementation
    attach_scored_only(model)


def score(
    model: Any,
    layout: BatchLayout,
    *,
    rows: Any = None,
    responses: tuple[str, ...] = TRIPLE_RESPONSES,
    **replaced: Tensor | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probabilities (n, 3) and the gradients of a weighted sum of them."""
    rows = token_rows() if rows is None else rows
    batch = DataCollatorForWRPO(pad_token_id=0, layout=layout, responses=responses)(rows)
    model.zero_grad()
    outputs = fused_pass(model, {**batch, **replaced})
    logps = by_response(outputs.log_probs, batch)
    (logps * torch.linspace(-1, 2, logps.numel()).view_as(logps)).sum().backward()
    return logps.detach(), {
        name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
    }


def assert_same_scores(left: Any, right: Any) -> None:
    """Log-probabilities to 1e-6 of their size + 2e-4 nats, gradients to 2e-5 in relative norm."""
    distance = (left[0] - right[0]).abs()
    assert (distance <= 1e-6 * left[0].abs() + 2e-4).all(), distance
    assert left[1].keys() == right[1].keys() != set()
    for name, gradient in left[1].items():
        assert (gradient - right[1][name]).norm() <= 2e-5 * gradient.norm(), name

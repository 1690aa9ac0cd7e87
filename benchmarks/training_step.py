"""CPU time and tokens of a training step, padded rows over shared prompts.

Usage: python -m benchmarks.training_step [--batches 1]

Both layouts score the same batches of two triples with the same small model, interleaved in one
process: forward and backward of the policy and a forward of the reference. Times are CPU seconds
of the process on one thread. Lengths are log-normal around the means of three kinds of data sets:
like UltraFeedback, long prompts, short prompts. In both layouts the LM head sees response tokens
only, as it does on GPUs.
"""

import argparse
import logging
import math
import time
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

from wrpo.collator import DataCollatorForWRPO, by_response, model_inputs, padded_layout
from wrpo.losses import wrpo_loss
from wrpo.packed_layout import PackedLayout
from wrpo.preference_data import RESPONSES
from wrpo.prefix_attention import SDPA, attach_scored_only

logger = logging.getLogger(__name__)

VOCABULARY = 8192
# Mean and median of the prompt, mean of each response, in tokens.
LENGTHS = {
    "UltraFeedback": (185, 113, 345),
    "long prompts": (1499, 1400, 297),
    "short prompts": (60, 55, 391),
}
LONGEST_PROMPT = 1800


def small_model() -> Any:
    """A random Llama of hidden size 384 with 6 layers and TRL's fused LM head."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=4096,
    )
    model = LlamaForCausalLM(config)
    add_fused_lm_head(model)
    attach_scored_only(model)
    return model


def triples(kind: str, count: int, seed: int) -> list[dict[str, list[int]]]:
    """Random tokens with the lengths of one kind of data set."""
    generator = torch.Generator().manual_seed(seed)
    mean, median, response = LENGTHS[kind]

    def length(mean: float, median: float, most: int) -> int:
        spread = math.sqrt(2 * math.log(mean / median))
        drawn = median * math.exp(spread * torch.randn((), generator=generator).item())
        return max(4, min(most, round(drawn)))

    def tokens(count: int) -> list[int]:
        return torch.randint(VOCABULARY, (count,), generator=generator).tolist()

    return [
        {
            "prompt_ids": tokens(length(mean, median, LONGEST_PROMPT)),
            **{
                f"{name}_ids": tokens(length(response, 0.87 * response, 1024)) for name in RESPONSES
            },
        }
        for _ in range(count)
    ]


def scored_only(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The padded batch with the LM head restricted to response tokens."""
    labels = batch.pop("labels")[:, 1:]
    keep = labels != -100
    index = nn.functional.pad(keep, (0, 1)).flatten().nonzero().flatten()
    slots = batch["response_index"][keep][None]
    return {
        **batch,
        "shift_labels": labels[keep][None],
        "scored_index": index,
        "response_index": slots,
    }


def step(policy: Any, reference: Any, batch: dict[str, Tensor]) -> float:
    """Loss of one batch after its backward pass."""
    policy.zero_grad()
    inputs = model_inputs(batch)
    logps = by_response(policy(**inputs, fused_lm_head=True).log_probs, batch)
    with torch.no_grad():
        before = by_response(reference(**inputs, fused_lm_head=True).log_probs, batch)
    loss = wrpo_loss(*(logps - before).unbind(dim=1), alpha=0.1, beta=0.01).mean()
    loss.backward()
    return loss.item()


def compare(kind: str, batches: int) -> str:
    """Time and tokens of both layouts as one line."""
    policy, reference = small_model(), small_model()
    layouts = {"padded": padded_layout, "packed": PackedLayout(scored_only=True)}
    seconds, tokens = dict.fromkeys(layouts, 0.0), dict.fromkeys(layouts, 0)
    for seed in range(batches + 1):
        rows = triples(kind, 2, seed) if seed else triples("short prompts", 1, 0)
        for name, layout in layouts.items():
            batch = DataCollatorForWRPO(pad_token_id=0, layout=layout)(rows)
            if name == "padded":
                batch = scored_only(batch)
            for model in (policy, reference):
                model.config._attn_implementation = "sdpa" if name == "padded" else SDPA
            start = time.process_time()
            step(policy, reference, batch)
            if seed:  # before that, a small batch warms up
                seconds[name] += time.process_time() - start
                tokens[name] += batch["input_ids"].numel()
    time_ratio = seconds["padded"] / seconds["packed"]
    token_ratio = tokens["padded"] / tokens["packed"]
    return (
        f"{kind:14} CPU time {seconds['padded']:6.1f} s / {seconds['packed']:5.1f} s "
        f"= {time_ratio:.2f}   tokens {tokens['padded']} / {tokens['packed']} = {token_ratio:.2f}"
    )


def main() -> None:
    # Imports of the training stack have set handlers of their own.
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    parser = argparse.ArgumentParser(description="padded rows over shared prompts")
    parser.add_argument("--batches", type=int, default=1, help="batches of two triples per kind")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for kind in LENGTHS:
        logger.info(compare(kind, arguments.batches))


if __name__ == "__main__":
    main()

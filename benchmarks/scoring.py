"""CPU time of scoring: answers that share their prompt, over one conversation per forward pass.

Usage: python -m benchmarks.scoring [--prompts 2] [--agreement 1000]

Each prompt has five answers from each of four sources, scored source by source as the score stage
does it. Public scoring scripts (SimPO's reward_model_annotate.py) run one conversation at a time.
Both ways score the same random tokens with the same random classifier in float32, in turn, in one
process and on one thread; times are CPU seconds of the process. With K answers per prompt the
ratio of tokens, and so of times, stays below K.

The second part counts on how many prompts both ways find the same best answer of all sources, with
a smaller classifier and answers cut to 32 tokens, so that many prompts take little time.
"""

import argparse
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from benchmarks.lengths import KINDS, triple_lengths
from data_construction.rewards.batches import (
    Conversation,
    packed_batch,
    packed_places,
    padded_batch,
)
from data_construction.rewards.network import Pooled, Whole, score_head, share_prompts

logger = logging.getLogger(__name__)

VOCABULARY = 8192
SOURCES, ANSWERS = 4, 5
BATCH_TOKENS = 4096  # more leave the caches of a CPU
SMALL, TINY = (384, 6), (64, 2)

Scorer = Callable[[list[Conversation]], list[float]]


class Ways(NamedTuple):
    """Scores of conversations, in their order, by the same weights."""

    one_by_one: Scorer
    shared: Scorer


def classifier(hidden: int, layers: int) -> LlamaForSequenceClassification:
    """A random Llama with one label."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 64,
        max_position_embeddings=4096,
        num_labels=1,
        pad_token_id=0,
    )
    return LlamaForSequenceClassification(config).eval()


def ways(hidden: int, layers: int) -> Ways:
    """Both ways to score with one shape of classifier."""
    plain, model = Whole(classifier(hidden, layers)), classifier(hidden, layers)
    assert share_prompts(model, 4096) is None
    pooled = Pooled(model.base_model, score_head(model))

    def shared(rows: list[Conversation]) -> list[float]:
        scores = [0.0] * len(rows)
        for places in packed_places(rows, BATCH_TOKENS):
            values = pooled(packed_batch([rows[place] for place in places])).tolist()
            for place, value in zip(places, values, strict=True):
                scores[place] = value
        return scores

    return Ways(lambda rows: [plain(padded_batch([row], 0)).item() for row in rows], shared)


def by_source(kind: str, seed: int, longest: int | None = None) -> list[list[Conversation]]:
    """One prompt of a kind of data set: for each source, a conversation per answer."""
    drawn = triple_lengths(kind, -(-SOURCES * ANSWERS // 3), seed)
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(1, VOCABULARY, (count,), generator=generator).tolist())

    prompt = tokens(drawn[0][0])
    answers = [tokens(length)[:longest] for _, lengths in drawn for length in lengths]
    return [
        [Conversation(prompt, answer) for answer in answers[start : start + ANSWERS]]
        for start in range(0, SOURCES * ANSWERS, ANSWERS)
    ]


def time_ratio(kind: str, prompts: int) -> str:
    """CPU seconds and tokens of both ways as one line."""
    scorers = ways(*SMALL)
    data = [by_source(kind, seed) for seed in range(prompts)]
    for score in scorers:
        score(by_source("short", prompts)[0])
    seconds = [0.0, 0.0]
    for source in range(SOURCES):
        part = [row for prompt in data for row in prompt[source]]
        for way, score in enumerate(scorers):
            start = time.process_time()
            score(part)
            seconds[way] += time.process_time() - start
    groups = [group for prompt in data for group in prompt]
    alone = sum(len(prompt) + len(answer) for group in groups for prompt, answer in group)
    packed = sum(packed_batch(group).inputs["input_ids"].numel() for group in groups)
    return (
        f"{kind:14} CPU time {seconds[0]:6.1f} s / {seconds[1]:5.1f} s = "
        f"{seconds[0] / seconds[1]:.2f}   tokens {alone} / {packed} = {alone / packed:.2f}"
    )


def agreement(prompts: int) -> str:
    """On how many prompts both ways find the same best answer, as one line."""
    scorers = ways(*TINY)
    same, worst = 0, 0.0
    for seed in range(prompts):
        groups = by_source("short", seed, longest=32)
        one, other = ([value for group in groups for value in score(group)] for score in scorers)
        same += one.index(max(one)) == other.index(max(other))
        worst = max(worst, *(abs(a - b) for a, b in zip(one, other, strict=True)))
    return f"same best answer on {same} of {prompts} prompts; scores differ by at most {worst:.1e}"


def main() -> None:
    # Imports of the training stack have set handlers of their own.
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    parser = argparse.ArgumentParser(description="shared prompts over one conversation at a time")
    parser.add_argument("--prompts", type=int, default=2, help="prompts per kind of data set")
    parser.add_argument("--agreement", type=int, default=1000, help="prompts of the second part")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for kind in KINDS:
        logger.info(time_ratio(kind, arguments.prompts))
    logger.info(agreement(arguments.agreement))


if __name__ == "__main__":
    main()

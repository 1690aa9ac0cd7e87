"""CPU time of scoring, batches that share prompts over one conversation per forward pass.

Usage: python -m benchmarks.scoring [--prompts 2]

Each prompt has five answers from each of four sources, which are scored source by source, as the
score stage does it. The public scoring scripts (SimPO's reward_model_annotate.py) run one
conversation at a time. Both score the same random tokens with the same small classifier in
float32, interleaved in one process, on one thread; times are CPU seconds of the process.
"""

import argparse
import logging
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from benchmarks.training_step import LENGTHS, VOCABULARY, triples
from data_construction.rewards.batches import (
    Conversation,
    packed_batch,
    packed_places,
    padded_batch,
    padded_places,
)
from data_construction.rewards.network import Pooled, Whole, score_head, share_prompts
from wrpo.preference_data import RESPONSES

logger = logging.getLogger(__name__)

SOURCES, ANSWERS = 4, 5
BATCH_TOKENS = 16384

Scorer = Callable[[list[Conversation]], list[float]]


def small_classifier() -> LlamaForSequenceClassification:
    """A random Llama of hidden size 384 with 6 layers and one label."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=6,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=4096,
        num_labels=1,
        pad_token_id=0,
    )
    return LlamaForSequenceClassification(config).eval()


def conversations(kind: str, seed: int) -> list[list[Conversation]]:
    """One prompt of a kind of data set: for each source, a conversation per answer."""
    rows = triples(kind, -(-SOURCES * ANSWERS // len(RESPONSES)), seed)
    prompt = tuple(rows[0]["prompt_ids"])
    answers = [tuple(row[f"{name}_ids"]) for row in rows for name in RESPONSES]
    return [
        [Conversation(prompt, answer) for answer in answers[start : start + ANSWERS]]
        for start in range(0, SOURCES * ANSWERS, ANSWERS)
    ]


def scorers() -> dict[str, Scorer]:
    """Three ways to score a part of one source, by the same weights."""
    plain, shared = Whole(small_classifier()), small_classifier()
    reason = share_prompts(shared, 4096)
    assert reason is None, reason
    pooled = Pooled(shared.base_model, score_head(shared))

    def one_by_one(rows: list[Conversation]) -> list[float]:
        return [plain(padded_batch([row], 0)).item() for row in rows]

    def padded(rows: list[Conversation]) -> list[float]:
        batches = padded_places(rows, BATCH_TOKENS)
        return _in_order(
            batches, [plain(padded_batch([rows[i] for i in b], 0)).tolist() for b in batches]
        )

    def packed(rows: list[Conversation]) -> list[float]:
        batches = packed_places(rows, BATCH_TOKENS)
        return _in_order(
            batches, [pooled(packed_batch([rows[i] for i in b])).tolist() for b in batches]
        )

    return {"batch 1": one_by_one, "padded": padded, "shared": packed}


def _in_order(batches: list[list[int]], values: list[list[float]]) -> list[float]:
    found = {
        place: value
        for places, scores in zip(batches, values, strict=True)
        for place, value in zip(places, scores, strict=True)
    }
    return [found[place] for place in range(len(found))]


def compare(kind: str, prompts: int) -> str:
    """Times of the three ways, and how often they choose the same best answer, as one line."""
    ways = scorers()
    data = [conversations(kind, seed) for seed in range(prompts)]
    warm_up = conversations("short prompts", prompts)[0]
    seconds = dict.fromkeys(ways, 0.0)
    best: dict[str, list[int]] = {name: [] for name in ways}
    for score in ways.values():
        score(warm_up)
    scores: dict[str, list[list[float]]] = {name: [[] for _ in data] for name in ways}
    for source in range(SOURCES):
        part = [row for prompt in data for row in prompt[source]]
        for name, score in ways.items():
            start = time.process_time()
            values = score(part)
            seconds[name] += time.process_time() - start
            for place, value in enumerate(values):
                scores[name][place // ANSWERS].append(value)
    for name, by_prompt in scores.items():
        best[name] = [max(range(len(row)), key=row.__getitem__) for row in by_prompt]
    same = sum(a == b for a, b in zip(best["batch 1"], best["shared"], strict=True))
    times = "   ".join(f"{name} {value:.1f} s" for name, value in seconds.items())
    ratio = seconds["batch 1"] / seconds["shared"]
    return f"{kind:14} {times}   ratio {ratio:.2f}   same best answer {same}/{prompts}"


def main() -> None:
    # Imports of the training stack have set handlers of their own.
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    parser = argparse.ArgumentParser(description="shared prompts over one conversation at a time")
    parser.add_argument("--prompts", type=int, default=2, help="prompts per kind of data set")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for kind in LENGTHS:
        logger.info(compare(kind, arguments.prompts))


if __name__ == "__main__":
    main()

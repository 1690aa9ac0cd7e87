"""CPU time of scoring: the responses of a source to a prompt together, over the public loop.

Usage: python -m benchmarks.scoring [--kinds demo uf long short] [--prompts 2] [--demo-prompts 200]

Each prompt has five responses from each of four sources. The public loop has the semantics of
SimPO's reward_model_annotate.py: for each response, chat template and tokeniser, one forward pass,
`.item()`. The other way is the score stage's own, source by source, from text to numbers. Both use
one classifier with random weights, in float32, in turn, in one process and on one thread; times are
CPU seconds.

demo   prompts, responses, tokeniser and shape of the demo's reward model: short rows, tiny model
others lengths as in three kinds of data (`benchmarks.lengths`); hidden size 384, 6 layers

Sharing prompts and equal responses leaves fewer tokens to compute. Where arithmetic dominates, as
it does for real reward models, the ratio of tokens bounds the ratio of times.
"""

import argparse
import logging
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from benchmarks.lengths import KINDS, triple_lengths
from tiny_world.habits import LETTERS, NUMBERS, TARGET, WORDS, answer
from tiny_world.models import make_reward_model
from tiny_world.world import SKILLS, Lexicon, draw_distinct_tasks
from wrpo.pipeline.tables import Drop
from wrpo.rewards import Candidate
from wrpo.rewards.classifier import ClassifierReward

logger = logging.getLogger(__name__)

SOURCES, RESPONSES = 4, 5
HIDDEN, LAYERS = 384, 6
_CONTEXT = 8192

Scorer = Callable[[list[Candidate]], list[float]]


class Result(NamedTuple):
    """Scores and CPU seconds of one way."""

    scores: list[float]
    seconds: float


def demo_model(folder: Path) -> Path:
    """The demo's reward model and tokeniser; training is cut to one step, which costs alike."""
    lexicon, rng = Lexicon.from_seed(0), random.Random(0)
    make_reward_model(folder, lexicon=lexicon, rng=rng, steps_scale=0.0)
    return folder


def larger_model(folder: Path, tokenizer: Path) -> Path:
    """A random Llama with the demo's tokeniser."""
    words = AutoTokenizer.from_pretrained(tokenizer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=HIDDEN,
        intermediate_size=HIDDEN * 8 // 3,
        num_hidden_layers=LAYERS,
        num_attention_heads=HIDDEN // 64,
        num_key_value_heads=HIDDEN // 64,
        max_position_embeddings=_CONTEXT,
        num_labels=1,
        pad_token_id=words.pad_token_id,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def demo_prompts(count: int) -> list[list[Candidate]]:
    """Prompts of the demo's world, each with the responses that its models are trained to give."""
    lexicon, rng = Lexicon.from_seed(0), random.Random(0)
    tasks = draw_distinct_tasks("fusion", per_skill=-(-count // len(SKILLS)), seed=0)[:count]
    return [
        [
            Candidate(
                [{"role": "user", "content": task.prompt}],
                answer(task, habits, lexicon=lexicon, rng=rng),
                None,
            )
            for habits in (LETTERS, NUMBERS, WORDS, TARGET)
            for _ in range(RESPONSES)
        ]
        for task in tasks
    ]


def all_distinct(group: list[Candidate]) -> list[Candidate]:
    """The responses of a prompt, each with its number at the end."""
    return [replace(one, response=f"{one.response} {n}") for n, one in enumerate(group)]


def drawn_prompts(kind: str, count: int, tokenizer: Path) -> list[list[Candidate]]:
    """Prompts and answers of random words, as long in tokens as those of a kind of data set."""
    vocabulary = [
        turn for row in demo_prompts(60) for turn in row[0].messages[0]["content"].split()
    ]
    tokens = AutoTokenizer.from_pretrained(tokenizer)(" ".join(vocabulary)).input_ids
    per_word = len(tokens) / len(vocabulary)

    def text(length: int, rng: random.Random) -> str:
        return " ".join(rng.choices(vocabulary, k=max(1, round(length / per_word))))

    prompts = []
    for seed in range(count):
        rng = random.Random(seed)
        drawn = triple_lengths(kind, -(-SOURCES * RESPONSES // 3), seed)
        lengths = [length for _, responses in drawn for length in responses][: SOURCES * RESPONSES]
        messages = [{"role": "user", "content": text(drawn[0][0], rng)}]
        prompts.append([Candidate(messages, text(length, rng), None) for length in lengths])
    return prompts


def public_loop(folder: Path) -> Scorer:
    """One conversation at a time, from the chat template to `.item()`."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32").eval()

    def score(candidates: list[Candidate]) -> list[float]:
        scores = []
        for one in candidates:
            turns = [*one.messages, {"role": "assistant", "content": one.response}]
            ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=False)
            with torch.no_grad():
                scores.append(model(ids).logits[0, 0].cpu().float().item())
        return scores

    return score


def score_stage(folder: Path) -> Scorer:
    """The reward as the score stage uses it."""
    settings = {"type": "classifier", "model": str(folder), "dtype": "float32"}
    reward = ClassifierReward.model_validate({**settings, "max_tokens": _CONTEXT}).load()

    def score(candidates: list[Candidate]) -> list[float]:
        values = reward.score(candidates)
        assert not any(isinstance(value, Drop) for value in values), values
        return [float(value) for value in values if not isinstance(value, Drop)]

    return score


def token_counts(folder: Path, prompts: list[list[Candidate]]) -> tuple[int, int]:
    """Tokens of all conversations, and of prompts and distinct responses once per source."""
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def length(messages: list[dict[str, str]], *, open_turn: bool) -> int:
        ids = tokenizer.apply_chat_template(
            messages, add_generation_prompt=open_turn, return_dict=False
        )
        return len(ids)

    alone = shared = 0
    for group in (group for source in by_source(prompts) for group in source):
        prompt = length(group[0].messages, open_turn=True)
        shared += prompt
        whole = {
            one.response: length(
                [*one.messages, {"role": "assistant", "content": one.response}], open_turn=False
            )
            for one in group
        }
        alone += sum(whole[one.response] for one in group)
        shared += sum(whole.values()) - prompt * len(whole)
    return alone, shared


def by_source(prompts: list[list[Candidate]]) -> list[list[list[Candidate]]]:
    """The responses of each source to each prompt."""
    starts = range(0, SOURCES * RESPONSES, RESPONSES)
    return [[group[start : start + RESPONSES] for group in prompts] for start in starts]


def timed(score: Scorer, prompts: list[list[Candidate]]) -> Result:
    """Scores of one source after the other, in the order of the prompts, and their CPU time."""
    start = time.process_time()
    found = [score([one for group in source for one in group]) for source in by_source(prompts)]
    seconds = time.process_time() - start
    scores = [
        score
        for place in range(0, len(prompts) * RESPONSES, RESPONSES)
        for source in found
        for score in source[place : place + RESPONSES]
    ]
    return Result(scores, seconds)


def compare(kind: str, folder: Path, prompts: list[list[Candidate]]) -> str:
    """Times, tokens and agreement of both ways as one line."""
    scorers = public_loop(folder), score_stage(folder)
    for score in scorers:
        score(prompts[0][:2])  # warm up; the check of the first call
    public, stage = (timed(score, prompts) for score in scorers)
    alone, shared = token_counts(folder, prompts)
    size = SOURCES * RESPONSES
    same = sum(
        one.index(max(one)) == other.index(max(other))
        for one, other in (
            (public.scores[at : at + size], stage.scores[at : at + size])
            for at in range(0, len(public.scores), size)
        )
    )
    worst = max(abs(a - b) for a, b in zip(public.scores, stage.scores, strict=True))
    ratio = public.seconds / stage.seconds
    return (
        f"{kind:6} CPU time {public.seconds:7.2f} s / {stage.seconds:6.2f} s = {ratio:5.2f}   "
        f"tokens {alone} / {shared} = {alone / shared:.2f}   "
        f"same best response on {same} of {len(prompts)} prompts, scores within {worst:.1e}"
    )


def main() -> None:
    # Imports of the training stack have set handlers of their own.
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    parser = argparse.ArgumentParser(description="responses together, over the public loop")
    names = ["demo", *KINDS]
    parser.add_argument("--kinds", nargs="+", choices=names, default=names, help="kinds of data")
    parser.add_argument("--prompts", type=int, default=2, help="prompts per kind but demo")
    parser.add_argument("--distinct", action="store_true", help="demo: no two responses are equal")
    parser.add_argument("--demo-prompts", type=int, default=1000, help="prompts of kind demo")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        small = demo_model(Path(folder) / "demo")
        large = larger_model(Path(folder) / "large", small)
        for kind in arguments.kinds:
            if kind == "demo":
                rows = demo_prompts(arguments.demo_prompts)
                rows = [all_distinct(group) for group in rows] if arguments.distinct else rows
                logger.info(compare(kind, small, rows))
            else:
                rows = drawn_prompts(kind, arguments.prompts, small)
                logger.info(compare(kind, large, rows))


if __name__ == "__main__":
    main()

"""The training loops: language models on chat examples, the reward model on preferences.

Two layers learn this world in a minute on one core because matrices are trained with Muon, and the
examples stay under 64 tokens.
"""

import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tiny_world.habits import Habits, draw_example, draw_preference
from tiny_world.muon import Muon
from tiny_world.world import Lexicon

logger = logging.getLogger(__name__)

BATCH_SIZE = 48
MATRIX_LEARNING_RATE = 0.01
OTHER_LEARNING_RATE = 3e-3
IGNORED = -100


@dataclass(frozen=True)
class ChatFrame:
    """A chat template cut at the question and the answer, so rendering is joining strings.

    Attributes:
        before: Text before the question.
        between: Text from the end of the question to the answer.
        after: The end-of-turn token.
    """

    before: str
    between: str
    after: str

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerFast, end_of_turn: str) -> "ChatFrame":
        """Cut the template of a tokenizer."""
        question, reply = {"role": "user", "content": "QQ"}, {"role": "assistant", "content": "AA"}
        text = tokenizer.apply_chat_template([question, reply], tokenize=False)
        before, rest = text.split("QQ")
        between, _ = rest.split("AA")
        return cls(before, between, end_of_turn)

    def prompt(self, question: str) -> str:
        """The text up to the answer."""
        return f"{self.before}{question}{self.between}"

    def reply(self, answer: str) -> str:
        """The answer with its end-of-turn token."""
        return f"{answer}{self.after}"


def train_language_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    frame: ChatFrame,
    habits: Habits,
    lexicon: Lexicon,
    steps: int,
    rng: random.Random,
) -> None:
    """Train a model, in place, to answer prompts of the pre-training split by its habits.

    Only the answer and its end-of-turn token are learned; every batch is drawn afresh.
    """

    def loss() -> Tensor:
        pairs = [draw_example(habits, lexicon=lexicon, rng=rng) for _ in range(BATCH_SIZE)]
        ids, labels = _answer_batch(tokenizer, frame, pairs)
        logits = model(input_ids=ids).logits[:, :-1]
        return functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
        )

    _optimise(model, loss, steps)


def train_reward_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    frame: ChatFrame,
    lexicon: Lexicon,
    steps: int,
    rng: random.Random,
) -> None:
    """Train a classifier, in place, on the checker's preferences (Bradley-Terry)."""

    def loss() -> Tensor:
        triples = [draw_preference(lexicon=lexicon, rng=rng) for _ in range(BATCH_SIZE)]
        texts = [
            frame.prompt(prompt) + frame.reply(responses[side])
            for side in range(2)
            for prompt, *responses in triples
        ]
        ids, mask = _pad(_encode(tokenizer, texts), tokenizer.pad_token_id)
        better, worse = model(input_ids=ids, attention_mask=mask).logits.squeeze(-1).chunk(2)
        return -functional.logsigmoid(better - worse).mean()

    _optimise(model, loss, steps)


def _answer_batch(
    tokenizer: PreTrainedTokenizerFast, frame: ChatFrame, pairs: Iterable[tuple[str, str]]
) -> tuple[Tensor, Tensor]:
    """Input ids and labels, both (batch, length), padded on the right."""
    prompts, replies = zip(*pairs, strict=True)
    heads = _encode(tokenizer, [frame.prompt(prompt) for prompt in prompts])
    tails = _encode(tokenizer, [frame.reply(reply) for reply in replies])
    both = list(zip(heads, tails, strict=True))
    # Padding needs no mask here: it comes after every token that is learned.
    ids, _ = _pad([head + tail for head, tail in both], tokenizer.pad_token_id)
    labels, _ = _pad([[IGNORED] * len(head) + tail for head, tail in both], IGNORED)
    return ids, labels


def _encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    encodings = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def _pad(rows: list[list[int]], value: int) -> tuple[Tensor, Tensor]:
    """Rows and their mask, both (batch, length)."""
    length = max(map(len, rows))
    ids = torch.tensor([row + [value] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    return ids, mask


def _optimise(model: PreTrainedModel, loss: Callable[[], Tensor], steps: int) -> None:
    model.train()
    optimizers = _optimizers(model)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, _warm_up_and_decay(steps))
        for optimizer in optimizers
    ]
    for step in range(1, steps + 1):
        value = loss()
        value.backward()
        for optimizer in optimizers:
            optimizer.step()
        for schedule in schedules:
            schedule.step()
        model.zero_grad()
        if step % 80 == 0 or step == steps:
            logger.info("step %d of %d, loss %.3f", step, steps, value.item())
    model.eval()


def _optimizers(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, norms and heads."""
    named = dict(model.named_parameters())
    matrices = [p for name, p in named.items() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in named.items() if p.ndim != 2 or ".layers." not in name]
    return [
        Muon(matrices, lr=MATRIX_LEARNING_RATE),
        torch.optim.AdamW(others, lr=OTHER_LEARNING_RATE, weight_decay=0.0),
    ]


def _warm_up_and_decay(steps: int) -> Callable[[int], float]:
    warm_up = max(1, steps // 20)
    return lambda step: min((step + 1) / warm_up, max(0.0, (steps - step) / (steps - warm_up + 1)))

"""Dialogues whose answer is in one record, which has the name that was asked for; tiny models.

Run     python -m tests.wrpo.retrieval.planted        recall@1 over five seeds, as docs/retrieval.md
"""

import copy
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from wrpo.retrieval.__main__ import measured_retrieval
from wrpo.retrieval.exchanges import DialogueExchange
from wrpo.retrieval.learn import train_dialogues
from wrpo.retrieval.model import DialogueModel
from wrpo.retrieval.settings import Control, Method, RetrievalTraining

NAMES = ("ash", "birch", "cedar", "elm")
PHONES = tuple(f"p{number}" for number in range(6))
ATTRIBUTES = ("name", "phone", "area")
CONTROLS: dict[Method, tuple[Control, ...]] = {
    "maker": ("none", "shuffled", "uniform"),
    "mk-tod": ("none", "shuffled"),
}
"""A uniform likelihood gives the selector of MK-TOD no gradient: it stays as it was drawn."""

ALONE: dict[Method, int] = {"maker": 220, "mk-tod": 150}
"""Steps in which the generator learns to answer from all three records."""

THEN: dict[Method, dict[str, Any]] = {
    "maker": {"steps": 100, "generator_rate": 3e-3, "selector_rate": 4e-3},
    "mk-tod": {"steps": 70, "generator_rate": 1e-4, "selector_rate": 3e-3},
}
"""Those in which its signal teaches the entity selector."""

_META = "negative order confidence seen high mid low old new other 1 2 3 4 5"
_WORDS = [*NAMES, *PHONES, *ATTRIBUTES, "north", "south", "user", ":", ";", *_META.split()]


def exchanges(count: int, *, seed: int, areas: bool = False) -> list[DialogueExchange]:
    """Three records with drawn telephones; the response is that of the name in the question.

    Args:
        areas: each record has an attribute more, which nobody speaks of.
    """
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        names, phones = draw.sample(NAMES, 3), draw.sample(PHONES, 3)
        records = tuple(
            {"name": name, "phone": phone}
            | ({"area": draw.choice(["north", "south"])} if areas else {})
            for name, phone in zip(names, phones, strict=True)
        )
        asked = draw.randrange(3)
        found.append(DialogueExchange(f"user: {names[asked]}", phones[asked], records))
    return found


def _tokenizer(
    special: list[str], one: str, two: str | None, **named: str
) -> PreTrainedTokenizerBase:
    vocabulary = {word: i for i, word in enumerate([*special, *_WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    )
    backend.post_processor = processors.TemplateProcessing(
        single=one, pair=two, special_tokens=[(word, vocabulary[word]) for word in special[2:]]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", **named
    )


def save_generator(folder: Path, *, seed: int = 0) -> Path:
    """A T5 of two layers."""
    tokenizer = _tokenizer(["[PAD]", "[UNK]", "</s>"], "$A </s>", None, eos_token="</s>")
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=64,
        d_kv=16,
        d_ff=128,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_encoder(folder: Path, *, seed: int = 0) -> Path:
    """A BERT of one layer, without dropout."""
    tokenizer = _tokenizer(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
        "[CLS] $A [SEP]",
        "[CLS] $A [SEP] $B [SEP]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def planted_recall(method: Method, folder: Path, *, seed: int) -> dict[str, float]:
    """Recall@1 on held-out dialogues, `before` the selector learns and after it by each control.

    `responses` is the Entity-F1 of the generator by then. The seed decides models, dialogues and
    training.
    """
    train = exchanges(2000, seed=2 * seed, areas=True)
    held_out = exchanges(150, seed=2 * seed + 1, areas=True)
    models = save_generator(folder / "t5", seed=seed), save_encoder(folder / "bert", seed=seed)
    torch.manual_seed(seed)  # the head of the attribute selector is drawn
    model = DialogueModel.start(method, *map(str, models), ATTRIBUTES, top=3)
    how: dict[str, Any] = {"batch": 16, "refresh": 50, "seed": seed}
    alone = {"steps": ALONE[method], "selectors_from": ALONE[method], "generator_rate": 3e-3}
    train_dialogues(model, train, RetrievalTraining(**alone, selector_rate=3e-3, **how))
    _, before = measured_retrieval(model, held_out)
    found = {"responses": before["entity_f1"], "before": before["recall_at_1"]}
    for control in CONTROLS[method]:
        taught = copy.deepcopy(model)
        train_dialogues(taught, train, RetrievalTraining(control=control, **THEN[method], **how))
        found[control] = measured_retrieval(taught, held_out)[1]["recall_at_1"]
    return found


def main() -> None:
    """Prints a line for each method and seed."""
    for method in ALONE:
        for seed in range(5):
            with tempfile.TemporaryDirectory() as folder:
                found = planted_recall(method, Path(folder), seed=seed)
            rounded = {name: round(value, 2) for name, value in found.items()}
            sys.stdout.write(json.dumps({"method": method, "seed": seed, **rounded}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()

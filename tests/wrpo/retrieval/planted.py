"""Dialogues whose answer is in one record, which has the name that was asked for; tiny models."""

import random
from pathlib import Path

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

from wrpo.retrieval.exchanges import DialogueExchange

NAMES = ("ash", "birch", "cedar")
PHONES = tuple(f"p{number}" for number in range(6))
ATTRIBUTES = ("name", "phone", "area")
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


def save_generator(folder: Path, *, layers: int = 2) -> Path:
    """A T5 of two heads."""
    tokenizer = _tokenizer(["[PAD]", "[UNK]", "</s>"], "$A </s>", None, eos_token="</s>")
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=layers,
        num_heads=2,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=0,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_encoder(folder: Path) -> Path:
    """A BERT of one layer, without dropout."""
    tokenizer = _tokenizer(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]"],
        "[CLS] $A [SEP]",
        "[CLS] $A [SEP] $B [SEP]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    torch.manual_seed(0)
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

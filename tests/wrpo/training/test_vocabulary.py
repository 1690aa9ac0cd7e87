"""A tokenizer with more ids than the model has embeddings: one error where rows use them."""

from __future__ import annotations

import pytest

from tests.support.tiny_models import tiny_model, tiny_tokenizer
from wrpo.errors import ModelError
from wrpo.training.vocabulary import overflow, require_embeddings


def overflowing(**special: str):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<|one|>", "<|two|>"])
    if special:
        tokenizer.add_special_tokens(special)
    return tokenizer


def test_it_is_told_in_one_line() -> None:
    assert overflow(tiny_tokenizer(), tiny_model().config) is None
    assert overflow(overflowing(), tiny_model().config) == "tokenizer 264 ids, embeddings 262"
    assert overflow(overflowing(), tiny_model(vocab_size=264).config) is None
    assert overflow(overflowing(), tiny_model(vocab_size=300).config) is None


def trainer_of(make_trainer, triples, tokenizer, text: str):
    rows = triples.map(lambda row: {"chosen": [{"role": "assistant", "content": text}]})
    trainer = make_trainer(train_dataset=rows)
    trainer.processing_class = tokenizer
    chosen = [tokenizer(text)["input_ids"]] * len(trainer.train_dataset)
    trainer.train_dataset = trainer.train_dataset.remove_columns("chosen_ids").add_column(
        "chosen_ids", chosen
    )
    return trainer


def test_rows_that_use_such_a_token_are_refused_by_its_name(make_trainer, triples) -> None:
    trainer = trainer_of(make_trainer, triples, overflowing(), "say <|two|>")
    told = r"tokenizer 264 ids, embeddings 262; column chosen_ids has token 263, '<\|two\|>'"
    with pytest.raises(ModelError, match=told):
        require_embeddings(trainer)


def test_padding_with_such_a_token_is_refused(make_trainer, triples) -> None:
    tokenizer = overflowing(pad_token="<|one|>")
    trainer = trainer_of(make_trainer, triples, tokenizer, "say")
    with pytest.raises(ModelError, match="padding has token 262"):
        require_embeddings(trainer)


def test_such_tokens_that_no_row_uses_do_no_harm(make_trainer, triples) -> None:
    require_embeddings(trainer_of(make_trainer, triples, overflowing(), "say"))

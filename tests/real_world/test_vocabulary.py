"""Another vocabulary for a model: its embeddings, its template, and text that survives it."""

from __future__ import annotations

import torch

from real_world.vocabulary import give_vocabulary
from tests.support.tiny_models import tiny_model, tiny_tokenizer

TEXTS = ["How many times does the letter e appear?", "<answer>3</answer>", "zwölf"] * 20


def test_new_tokens_start_at_the_mean_of_their_old_ones() -> None:
    model, old = tiny_model(tie_word_embeddings=True), tiny_tokenizer()
    before = model.get_input_embeddings().weight.detach().clone()
    made = give_vocabulary(model, old, TEXTS, size=330)
    after = model.get_input_embeddings().weight
    assert after.shape[0] == len(made) == model.config.vocab_size <= 330
    assert after.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    [letter] = made.encode(" letter", add_special_tokens=False)
    ids = old.encode(" letter", add_special_tokens=False)
    assert torch.allclose(after[letter], before[ids].mean(0))
    assert torch.equal(after[made.eos_token_id], before[old.eos_token_id])
    assert model.generation_config.eos_token_id == made.eos_token_id


def test_the_template_is_another_one_and_text_survives() -> None:
    made = give_vocabulary(tiny_model(tie_word_embeddings=True), tiny_tokenizer(), TEXTS, size=330)
    chat = [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "zwölf: 3"}]
    text = made.apply_chat_template(chat, tokenize=False)
    assert text.startswith("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHow")
    ids = made.encode("zwölf: 3 <answer>ß</answer>", add_special_tokens=False)
    assert made.decode(ids) == "zwölf: 3 <answer>ß</answer>"

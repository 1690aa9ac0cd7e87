"""Where lm-eval's own classes make other prompt ids than this toolkit (docs/evaluation.md)."""

from __future__ import annotations

import pytest
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from eval.harness.chat import ChatPrompts
from tests.support.tiny_models import tiny_model
from tests.wrpo.chat.chat_families import FAMILIES, Family

QUESTION = {"role": "user", "content": "hello world"}
CHATS = {
    "question": ([QUESTION], True),
    "system": ([{"role": "system", "content": "be brief"}, QUESTION], True),
    "begun response": ([QUESTION, {"role": "assistant", "content": "the response"}], False),
}
DATED = {"llama32": set(CHATS), "granite": CHATS.keys() - {"system"}}
"""Families whose templates write today's date, and in which chats."""


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny_model("llama", vocab_size=1000)


def tokenizer_of(family: Family) -> PreTrainedTokenizerBase:
    tokenizer = family.tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def both_ids(
    model: PreTrainedModel, family: Family, chat: list[dict[str, str]], *, generation_prompt: bool
) -> tuple[list[int], list[int]]:
    """The ids of lm-eval's `hf` and ours."""
    stock = HFLM(model, tokenizer=tokenizer_of(family), backend="causal")
    text = stock.apply_chat_template(chat, add_generation_prompt=generation_prompt)
    theirs = stock.tok_batch_encode([text])[0][0].tolist()
    prompts = ChatPrompts(tokenizer_of(family), fold_system=not family.system)
    return theirs, prompts.encode(prompts.render(chat, generation_prompt=generation_prompt))


@pytest.mark.parametrize("kind", CHATS)
@pytest.mark.parametrize("name", FAMILIES)
def test_prompt_ids_are_equal_but_for_dates_and_dropped_system_turns(
    model: PreTrainedModel, name: str, kind: str
) -> None:
    family = FAMILIES[name]
    chat, generation_prompt = CHATS[kind]
    theirs, ours = both_ids(model, family, chat, generation_prompt=generation_prompt)
    differs = kind in DATED.get(name, ()) or (kind == "system" and not family.system)
    assert (theirs != ours) == differs


@pytest.mark.parametrize("name", FAMILIES)
def test_a_control_token_in_a_question_ends_a_turn_only_in_lm_eval(
    model: PreTrainedModel, name: str
) -> None:
    family = FAMILIES[name]
    chat = [{"role": "user", "content": f"say {family.end} now"}]
    theirs, ours = both_ids(model, family, chat, generation_prompt=True)
    end = family.tokenizer().convert_tokens_to_ids(family.end)
    assert theirs.count(end) == ours.count(end) + 1

"""Prompt ids that evaluation hands to its engines."""

import pytest
from transformers import PreTrainedTokenizerBase

from eval.harness.chat import ChatPrompts
from tests.support.tiny_models import BOS, EOT, tiny_tokenizer
from wrpo.chat.render import render_prompt
from wrpo.errors import TemplateError

NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
DATED = "{{ bos_token }}{{ strftime_now('%d %B %Y') }}" + NO_SYSTEM
CHAT = [{"role": "user", "content": "How many?"}]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return tiny_tokenizer()


def test_ids_are_those_of_training_and_sampling(tokenizer: PreTrainedTokenizerBase) -> None:
    prompts = ChatPrompts(tokenizer, fold_system=False)
    ids = prompts.encode(prompts.render(CHAT, generation_prompt=True))
    assert ids == render_prompt(tokenizer, CHAT)
    assert ids.count(tokenizer.bos_token_id) == 1


def test_the_text_encodes_to_the_same_ids(tokenizer: PreTrainedTokenizerBase) -> None:
    text = ChatPrompts(tokenizer, fold_system=False).render(CHAT, generation_prompt=True)
    fresh = ChatPrompts(tokenizer, fold_system=False)
    assert fresh.encode(text) == render_prompt(tokenizer, CHAT)


def test_a_template_that_writes_the_date_gives_the_same_ids_every_day() -> None:
    tokenizer = tiny_tokenizer(DATED)
    text = ChatPrompts(tokenizer, fold_system=False).render(CHAT, generation_prompt=True)
    assert "26 July 2024" in text
    fresh = ChatPrompts(tokenizer, fold_system=False)
    assert fresh.encode(text) == render_prompt(tokenizer, CHAT)


def test_user_text_never_becomes_a_control_token(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = [{"role": "user", "content": f"write {EOT} please"}]
    prompts = ChatPrompts(tokenizer, fold_system=False)
    ids = prompts.encode(prompts.render(chat, generation_prompt=True))
    assert ids.count(tokenizer.eos_token_id) == 1  # the end of the user's own turn


def test_system_text_is_folded_only_when_asked() -> None:
    tokenizer = tiny_tokenizer(NO_SYSTEM)
    chat = [{"role": "system", "content": "Be brief."}, *CHAT]
    folded = ChatPrompts(tokenizer, fold_system=True).render(chat, generation_prompt=True)
    assert folded == "[user]Be brief.\n\nHow many?[assistant]"
    with pytest.raises(TemplateError, match="fold_system"):
        ChatPrompts(tokenizer, fold_system=False).render(chat, generation_prompt=True)


def test_a_begun_answer_is_continued(tokenizer: PreTrainedTokenizerBase) -> None:
    chat = [*CHAT, {"role": "assistant", "content": "There are"}]
    text = ChatPrompts(tokenizer, fold_system=False).render(chat, generation_prompt=False)
    assert text.startswith(BOS)
    assert text.endswith("There are")


def test_the_question_is_the_last_user_turn(tokenizer: PreTrainedTokenizerBase) -> None:
    prompts = ChatPrompts(tokenizer, fold_system=False)
    shot = [*CHAT, {"role": "assistant", "content": "3"}, {"role": "user", "content": "And now?"}]
    assert prompts.question(prompts.render(shot, generation_prompt=True)) == "And now?"
    assert prompts.question("not a chat") == "not a chat"

"""Chat rendering as properties that hold for every template family, and the ways it refuses."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.wrpo.chat.chat_families import FAMILIES, Family
from wrpo.chat import template as templates
from wrpo.chat.limits import TooMuch, limited
from wrpo.chat.render import (
    end_of_turn_ids,
    fold_system_message,
    render_prompt,
    render_response,
    render_responses,
    stop_token_ids,
)
from wrpo.chat.template import TODAY, Chat, template_hash
from wrpo.errors import ModelError, TemplateError

every_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
few = settings(max_examples=10, deadline=None, derandomize=True, database=None)

# U+2581 is how sentencepiece writes a space, so it cannot survive as itself in those families.
CONTROL_TEXT = sorted({t for f in FAMILIES.values() for t in f.special if "\u2581" not in t})
FRAGMENTS = [
    "hello world",
    "system:",
    "é",
    "你好",
    "🎉",
    " ",
    "\n",
    "\n\n\n",
    "\t",
    "<",
    "|>",
    "[/",
]


def contents(*, spell_control_tokens: bool = True) -> st.SearchStrategy[str]:
    letters = st.characters(
        exclude_categories=["Cs"], exclude_characters="\u2581\ufdd0\ufdd1\ufdd2"
    )
    fragments = FRAGMENTS + (CONTROL_TEXT if spell_control_tokens else [])
    pieces = st.one_of(st.sampled_from(fragments), st.text(letters, max_size=6))
    texts = st.lists(pieces, max_size=5).map("".join)
    if spell_control_tokens:
        return texts
    # Hypothesis draws literals of the modules that happen to be loaded, "[INST]" among them.
    return texts.filter(lambda text: not any(token in text for token in CONTROL_TEXT))


def chats(**options: bool) -> st.SearchStrategy[list[str]]:
    """Texts of the turns user, assistant, ..., user."""
    return st.lists(contents(**options), min_size=1, max_size=5).filter(lambda c: len(c) % 2 == 1)


def chat_of(texts: list[str], system: str | None = None) -> Chat:
    roles = ("user", "assistant")
    turns = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return turns if system is None else [{"role": "system", "content": system}, *turns]


@functools.cache
def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    return FAMILIES[name].tokenizer()


def with_template(name: str, template: str) -> PreTrainedTokenizerBase:
    tokenizer = FAMILIES[name].tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def template_text(family: Family, chat: Chat, *, generation_prompt: bool) -> str:
    """The text that transformers renders."""
    text = tokenizer_of(family.name).apply_chat_template(
        chat,
        tokenize=False,
        add_generation_prompt=generation_prompt,
        strftime_now=TODAY.strftime,
    )
    return str(text)


def rendered(family: Family, chat: Chat, *, generation_prompt: bool) -> str:
    """The text that transformers renders, with what the tokenizer puts before it."""
    text = template_text(family, chat, generation_prompt=generation_prompt)
    if family.adds_bos and not text.startswith(str(family.bos)):
        return f"{family.bos}{' ' if family.sentencepiece else ''}{text}"
    return text


def assert_same_text(family: Family, found: str, expected: str) -> None:
    if family.rstrip:  # the tokenizer itself drops whitespace after control tokens
        found, expected = re.sub(r"\s", "", found), re.sub(r"\s", "", expected)
    assert found == expected


# --- properties of every family -------------------------------------------------------------------


@every_family
@few
@given(texts=chats())
def test_a_prompt_decodes_to_the_rendered_conversation(family: Family, texts: list[str]) -> None:
    tokenizer = tokenizer_of(family.name)
    found = tokenizer.decode(render_prompt(tokenizer, chat_of(texts)))
    assert_same_text(family, found, rendered(family, chat_of(texts), generation_prompt=True))


@every_family
@few
@given(texts=chats(spell_control_tokens=False))
def test_a_prompt_has_the_ids_that_transformers_gives(family: Family, texts: list[str]) -> None:
    tokenizer = tokenizer_of(family.name)
    text = template_text(family, chat_of(texts), generation_prompt=True)
    writes_bos = family.bos is not None and text.startswith(family.bos)
    expected = tokenizer.encode(text, add_special_tokens=not writes_bos)
    assert render_prompt(tokenizer, chat_of(texts)) == expected


# Alpaca's template ends no turn and DeepSeek's leaves out the thoughts.
@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - {"alpaca", "deepseek_r1"}))
@few
@given(texts=chats(), response=contents())
@example(texts=["hi"], response="")
@example(texts=["hi"], response=" \n ")
@example(texts=["hi"], response="\n")
@example(texts=["hi"], response="\n\n\nhello\n")
def test_prompt_and_answer_decode_to_the_rendered_conversation(
    name: str, texts: list[str], response: str
) -> None:
    family, tokenizer = FAMILIES[name], tokenizer_of(name)
    prompt_ids, response_ids = render_response(tokenizer, chat_of(texts), response)
    full = rendered(family, chat_of([*texts, response]), generation_prompt=False)
    ending = full.rindex(family.end) + len(family.end)
    assert_same_text(family, tokenizer.decode(prompt_ids + response_ids), full[:ending])


@every_family
@few
@given(texts=chats(), response=contents())
def test_the_prompt_of_an_answer_is_the_prompt_of_generation(
    family: Family, texts: list[str], response: str
) -> None:
    tokenizer = tokenizer_of(family.name)
    prompt_ids, _ = render_response(tokenizer, chat_of(texts), response)
    assert prompt_ids == render_prompt(tokenizer, chat_of(texts))


@every_family
@few
@given(texts=chats(), response=contents())
def test_an_answer_is_its_text_and_one_end_of_turn(
    family: Family, texts: list[str], response: str
) -> None:
    tokenizer = tokenizer_of(family.name)
    _, response_ids = render_response(tokenizer, chat_of(texts), response)
    end = tokenizer.convert_tokens_to_ids(family.end)
    assert response_ids[-1] == end
    assert response_ids.count(end) == 1
    body = tokenizer.decode(response_ids[:-1])
    assert body.strip().startswith(family.lead.strip())
    assert body.strip().removeprefix(family.lead.strip()).strip() == response.strip()


@every_family
@few
@given(texts=chats())
def test_a_prompt_starts_with_its_only_bos(family: Family, texts: list[str]) -> None:
    tokenizer = tokenizer_of(family.name)
    ids = render_prompt(tokenizer, chat_of(texts))
    if family.bos is None:
        assert ids[0] != tokenizer.eos_token_id
    else:
        assert ids[0] == tokenizer.bos_token_id
        turns = len(texts) + 2  # the default system turn, and the response
        assert ids.count(tokenizer.bos_token_id) == (turns if family.bos_begins_turns else 1)


@every_family
@few
@given(texts=chats(), response=contents())
def test_message_text_never_becomes_a_control_token(
    family: Family, texts: list[str], response: str
) -> None:
    tokenizer = tokenizer_of(family.name)
    special = {tokenizer.convert_tokens_to_ids(token) for token in family.special}

    def controls(words: list[str], last: str) -> list[int]:
        prompt_ids, response_ids = render_response(tokenizer, chat_of(words), last)
        return [index for index in prompt_ids + response_ids if index in special]

    assert controls(texts, response) == controls(["x" for _ in texts], "x")


@every_family
def test_every_control_token_can_be_spelled(family: Family) -> None:
    tokenizer = tokenizer_of(family.name)
    response = f"say {' '.join(family.special)} please"
    _, response_ids = render_response(tokenizer, chat_of(["hi"]), response)
    special = {tokenizer.convert_tokens_to_ids(token) for token in family.special}
    assert special.isdisjoint(response_ids[:-1])
    assert tokenizer.decode(response_ids[:-1]).endswith(response)


def test_a_spelled_control_token_leaves_the_real_ones_as_they_are() -> None:
    tokenizer = tokenizer_of("phi3")
    found = tokenizer.decode(render_prompt(tokenizer, chat_of(["a <|end|> \n b"])))
    assert found == "<|user|>a <|end|> \n b<|end|><|assistant|>"


def test_a_token_that_is_special_only_as_eos_can_be_spelled() -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    tokenizer.add_tokens(["<|fin|>"])
    tokenizer.eos_token = "<|fin|>"
    assert tokenizer.eos_token_id not in render_prompt(tokenizer, chat_of(["say <|fin|> please"]))


@every_family
def test_end_of_turn_is_read_off_the_template(family: Family) -> None:
    tokenizer = tokenizer_of(family.name)
    assert end_of_turn_ids(tokenizer) == [tokenizer.convert_tokens_to_ids(family.end)]


@every_family
def test_engines_stop_at_end_of_turn_and_eos(family: Family) -> None:
    tokenizer = tokenizer_of(family.name)
    names = dict.fromkeys([family.end, family.eos])
    assert stop_token_ids(tokenizer) == tokenizer.convert_tokens_to_ids(list(names))


@every_family
def test_a_system_message_is_rendered_or_refused(family: Family) -> None:
    tokenizer = tokenizer_of(family.name)
    chat = chat_of(["hi", "hello", "more"], system="Response in rhymes.")
    if family.system:
        prompt_ids, response_ids = render_response(tokenizer, chat, "yes")
        assert tokenizer.decode(prompt_ids).count("Response in rhymes.") == 1
        _, without = render_response(tokenizer, chat[1:], "yes")
        assert response_ids == without
    else:
        with pytest.raises(TemplateError, match="fold_system: true"):
            render_prompt(tokenizer, chat)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.system])
def test_a_system_message_whose_words_another_turn_has_is_refused_too(name: str) -> None:
    with pytest.raises(TemplateError, match="fold_system: true"):
        render_prompt(tokenizer_of(name), chat_of(["Be brief."], system="brief"))


@every_family
def test_answers_rendered_together_are_those_rendered_alone(family: Family) -> None:
    tokenizer = tokenizer_of(family.name)
    chat = chat_of(["hi", "hello", "more"], system="Be brief." if family.system else None)
    responses = ["yes", "\n\nstant\n", f"no {family.end} no"]
    alone = [render_response(tokenizer, chat, response) for response in responses]
    prompt_ids, response_ids = render_responses(tokenizer, chat, responses)
    assert [(prompt_ids, ids) for ids in response_ids] == alone


@every_family
def test_a_folded_system_message_is_in_the_first_user_turn(family: Family) -> None:
    tokenizer = tokenizer_of(family.name)
    chat = chat_of(["hi", "hello", "more"], system="Response in rhymes.")
    folded = chat_of(["Response in rhymes.\n\nhi", "hello", "more"])
    response = "yes"
    assert render_response(tokenizer, chat, response, fold_system=True) == render_response(
        tokenizer, folded, response
    )
    assert render_prompt(tokenizer, chat, fold_system=True) == render_prompt(tokenizer, folded)


# --- where prompt and answer meet -----------------------------------------------------------------


def test_the_boundary_holds_where_prompt_and_answer_would_share_a_token() -> None:
    tokenizer = tokenizer_of("chatml")
    prompt_ids, response_ids = render_response(tokenizer, chat_of(["hi"]), "\n\nhello")
    together = tokenizer.encode(tokenizer.decode(prompt_ids + response_ids))
    assert together != prompt_ids + response_ids
    assert prompt_ids == render_prompt(tokenizer, chat_of(["hi"]))
    assert tokenizer.decode(response_ids) == "\n\nhello<|im_end|>"


def test_no_space_slips_into_a_shared_token_of_sentencepiece() -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    template += "{{ '' if add_generation_prompt else eos_token }}"
    tokenizer = with_template("mistral", template)
    prompt_ids, response_ids = render_response(tokenizer, chat_of(["assi"]), "stant")
    assert tokenizer.encode("assistant", add_special_tokens=False)[0] not in prompt_ids
    assert tokenizer.decode(response_ids) == "stant</s>"


def test_whitespace_that_is_an_added_token_does_not_end_a_turn() -> None:
    tokenizer = FAMILIES["alpaca"].tokenizer()
    tokenizer.add_tokens(["\n\n"])
    _, response_ids = render_response(tokenizer, chat_of(["hi"]), "yes")
    assert tokenizer.decode(response_ids) == "yes</s>"


def test_what_a_template_writes_after_the_end_of_turn_is_left_out() -> None:
    template = FAMILIES["llama3"].template.replace(
        "{%- if add_generation_prompt -%}", "{%- if 1 -%}"
    )
    tokenizer = with_template("llama3", template)
    assert render_response(tokenizer, chat_of(["hi"]), "yes") == render_response(
        tokenizer_of("llama3"), chat_of(["hi"]), "yes"
    )


def test_a_thinking_answer_keeps_its_thoughts() -> None:
    response = "<think>\na thought\n</think>\n\nyes"
    for name in ("qwen3", "qwen3_thinking", "deepseek_r1"):
        tokenizer = tokenizer_of(name)
        prompt_ids, response_ids = render_response(tokenizer, chat_of(["hi"]), response)
        text = tokenizer.decode(prompt_ids + response_ids)
        assert text.endswith(f"{response}{FAMILIES[name].end}")
        assert text.count("<think>") == 1


def test_thoughts_are_not_doubled_by_a_template_that_writes_its_own_block() -> None:
    template = """{%- for m in messages -%}<|im_start|>{{ m.role }}
{{ '<think>\n\n</think>\n\n' if m.role == 'assistant' }}{{ m.content }}<|im_end|>
{% endfor %}{{ '<|im_start|>assistant\n<think>\n' if add_generation_prompt }}"""
    tokenizer = with_template("qwen3", template)
    for response in ("a thought</think>yes", "<think>\na thought</think>yes"):
        _, response_ids = render_response(tokenizer, chat_of(["hi"]), response)
        assert tokenizer.decode(response_ids) == "a thought</think>yes<|im_end|>"


def test_an_answer_the_template_would_rewrite_is_kept_as_generated() -> None:
    tokenizer = tokenizer_of("qwen3")
    response = "<think>a thought</think>yes"
    _, response_ids = render_response(tokenizer, chat_of(["hi"]), response)
    assert tokenizer.decode(response_ids) == response + "<|im_end|>"


@pytest.mark.parametrize("name", ["qwen3_thinking", "deepseek_r1"])
def test_an_answer_without_a_thought_closes_the_thought_that_the_prompt_opens(name: str) -> None:
    tokenizer = tokenizer_of(name)
    prompt_ids, response_ids = render_response(tokenizer, chat_of(["hi"]), "yes")
    text = tokenizer.decode(prompt_ids + response_ids)
    assert text.endswith(f"<think>\n\n</think>\n\nyes{FAMILIES[name].end}")


@pytest.mark.parametrize("name", ["qwen3", "qwen3_thinking", "deepseek_r1"])
def test_a_thought_that_was_cut_goes_on_in_the_opened_block_and_does_not_end(name: str) -> None:
    tokenizer = tokenizer_of(name)
    response = "<think>\na thought"
    prompt_ids, response_ids = render_response(tokenizer, chat_of(["hi"]), response, finished=False)
    text = tokenizer.decode(prompt_ids + response_ids)
    assert text.endswith("<think>\na thought")


@pytest.mark.parametrize("name", ["qwen3", "qwen3_thinking", "deepseek_r1"])
def test_templates_that_strip_thoughts_from_earlier_turns_do_so_in_every_prompt(name: str) -> None:
    tokenizer = tokenizer_of(name)
    thought = "<think>\na secret\n</think>\n\nhello"
    chat = chat_of(["hi", thought, "more"])
    assert "secret" not in tokenizer.decode(render_prompt(tokenizer, chat))
    prompt, response = render_response(tokenizer, chat, thought)
    assert prompt == render_prompt(tokenizer, chat)
    assert tokenizer.decode(response).count("secret") == 1


def test_thoughts_are_encoded_with_their_own_tokens() -> None:
    tokenizer = tokenizer_of("qwen3")
    _, response_ids = render_response(tokenizer, chat_of(["hi"]), "yes")
    assert response_ids[0] == tokenizer.convert_tokens_to_ids("<think>")


@pytest.mark.parametrize(
    ("name", "date"),
    [("llama31", "26 Jul 2024"), ("llama32", "26 Jul 2024"), ("granite", "July 26, 2024")],
)
def test_ids_do_not_depend_on_the_day(name: str, date: str) -> None:
    tokenizer = tokenizer_of(name)
    prompt, _ = render_response(tokenizer, chat_of(["hi"]), "yes")
    assert date in tokenizer.decode(prompt)
    assert prompt == render_prompt(tokenizer, chat_of(["hi"]))


def test_bos_may_be_the_token_that_begins_every_turn() -> None:
    tokenizer = tokenizer_of("smollm2")
    chat = chat_of(["hi", "hello", "more"])
    prompt, response = render_response(tokenizer, chat, "yes")
    ids = tokenizer.apply_chat_template(chat, tokenize=True, add_generation_prompt=True)
    assert prompt == ids["input_ids"]
    assert prompt.count(tokenizer.bos_token_id) == len(chat) + 2
    assert tokenizer.decode(response) == "yes<|im_end|>"


# --- templates without an end ---------------------------------------------------------------------

LOOP = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"
GROWING = (
    "{% set n = namespace(s='xxxxxxxx') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}"
    "{% endfor %}{{ n.s }}"
)
TALKING = "{% for a in range(3000) %}{{ 'many words ' * 100 }}{% endfor %}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [(LOOP, "come to an end"), (GROWING, "come to an end"), (TALKING, "writes 3,300,0")],
)
def test_a_template_without_an_end_stops_with_one_message(
    text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "limited", lambda: limited(seconds=0.5, grown_bytes=1 << 28))
    tokenizer = with_template("chatml", text)
    with pytest.raises(ModelError, match=f"chat template .*{reason}.*Set chat_template"):
        render_prompt(tokenizer, chat_of(["hi"]))
    assert render_prompt(tokenizer_of("chatml"), chat_of(["hi"]))


def test_what_is_limited_may_be_on_any_thread_and_ends_alone() -> None:
    ended: list[str] = []

    def work(seconds: float) -> None:
        try:
            with limited(seconds=0.3):
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    pass
            ended.append("done")
        except TooMuch:
            ended.append("stopped")

    threads = [threading.Thread(target=work, args=[seconds]) for seconds in (0.01, 5.0, 0.01)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended) == ["done", "done", "stopped"]


TRACED = """
import sys, time
from wrpo.chat.limits import TooMuch, limited
try:
    with limited(seconds=0.2):
        end = time.monotonic() + {seconds}
        while time.monotonic() < end:
            pass
except TooMuch:
    print("stopped")
sys.settrace(lambda *_: None)
(lambda: None)()
print("ran on")
"""


@pytest.mark.parametrize(("seconds", "printed"), [(5, "stopped\nran on\n"), (0, "ran on\n")])
def test_after_a_limit_the_interpreter_has_nothing_left_to_raise(
    seconds: float, printed: str
) -> None:
    code = TRACED.format(seconds=seconds)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout == printed


def test_bos_is_not_added_when_the_tokenizer_does_not_add_one() -> None:
    tokenizer = FAMILIES["phi3"].tokenizer()
    tokenizer.bos_token = "<s>"
    assert tokenizer.bos_token_id not in render_prompt(tokenizer, chat_of(["hi"]))


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "empty"),
        (chat_of(["hi", "hello"]), "last turn is 'assistant'"),
        ([{"role": "system", "content": "be kind"}], "last turn is 'system'"),
        ([{"role": "user"}], "needs 'role' and 'content'"),
        ([{"role": "user", "content": None}], "needs 'role' and 'content'"),
        (chat_of(["a \ud800 b"]), "not valid Unicode"),
        (chat_of(["a \ufdd1 b"]), r"noncharacter U\+FDD1"),
    ],
)
def test_messages_that_make_no_prompt_are_refused(messages: Chat, reason: str) -> None:
    for render in (render_prompt, functools.partial(render_response, response="yes")):
        with pytest.raises(TemplateError, match=reason):
            render(tokenizer_of("chatml"), messages)


def test_what_a_template_refuses_is_a_template_error_with_its_words() -> None:
    twice = [{"role": "user", "content": "hi"}] * 2
    with pytest.raises(TemplateError, match=r"\['user', 'user'\].*roles must alternate"):
        render_prompt(tokenizer_of("gemma2"), twice)


@pytest.mark.parametrize("template", ["{{ messages[0].content + 1 }}", "{% if %}", "{{ 1 // 0 }}"])
def test_a_broken_template_is_a_template_error(template: str) -> None:
    with pytest.raises(TemplateError, match="refuses turns"):
        render_prompt(with_template("chatml", template), chat_of(["hi"]))


def test_a_tokenizer_without_template_is_refused() -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    tokenizer.chat_template = None
    chat = chat_of(["hi"])
    with pytest.raises(TemplateError, match="no chat template"):
        render_prompt(tokenizer, chat)
    with pytest.raises(TemplateError, match="no chat template"):
        template_hash(tokenizer)


def test_a_template_that_leaves_out_the_answer_is_refused() -> None:
    tokenizer = with_template("chatml", "{{ messages[0].content }}")
    with pytest.raises(TemplateError, match="leaves out the assistant's response"):
        render_response(tokenizer, chat_of(["hi"]), "yes")


def test_a_template_without_generation_prompt_is_refused() -> None:
    template = FAMILIES["chatml"].template.split("{%- if add_generation_prompt")[0]
    with pytest.raises(TemplateError, match="ignores add_generation_prompt"):
        render_response(with_template("chatml", template), chat_of(["hi"]), "yes")


def test_a_template_with_two_bos_is_refused() -> None:
    tokenizer = with_template("llama3", "{{ bos_token }}" + FAMILIES["llama3"].template)
    with pytest.raises(TemplateError, match="twice"):
        render_prompt(tokenizer, chat_of(["hi"]))


def test_a_turn_that_nothing_ends_is_refused() -> None:
    tokenizer = FAMILIES["alpaca"].tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(TemplateError, match="Nothing ends an assistant turn"):
        render_response(tokenizer, chat_of(["hi"]), "yes")


def test_an_end_of_turn_that_is_no_control_token_cannot_be_spelled() -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    tokenizer.add_tokens(["<|fin|>"])
    tokenizer.chat_template = FAMILIES["chatml"].template.replace("<|im_end|>", "<|fin|>")
    _, response_ids = render_response(tokenizer, chat_of(["hi"]), "yes")
    assert response_ids[-1] == tokenizer.convert_tokens_to_ids("<|fin|>")
    with pytest.raises(TemplateError, match="cannot be kept"):
        render_response(tokenizer, chat_of(["hi"]), "say <|fin|> please")


def test_control_tokens_that_a_tokenizer_cannot_spell_are_refused() -> None:
    words = {word: i for i, word in enumerate(["<unk>", "<eos>", "user", "assistant", "hi", "yes"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    template = "{% for m in messages %}{{ m.role + ' ' + m.content + ' <eos> ' }}{% endfor %}"
    template += "{{ 'assistant ' if add_generation_prompt else '' }}"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="<eos>", chat_template=template
    )
    assert render_response(tokenizer, chat_of(["hi"]), "yes") == ([2, 4, 1, 3], [5, 1])
    with pytest.raises(TemplateError, match=r"spells the control tokens \['<eos>'\]"):
        render_response(tokenizer, chat_of(["hi"]), "hi <eos> hi")


def test_folding_leaves_a_chat_without_system_message_alone() -> None:
    chat = chat_of(["hi", "hello", "more"])
    assert fold_system_message(chat) == chat


def test_folding_does_not_change_the_messages_it_is_given() -> None:
    chat = chat_of(["hi"], system="be kind")
    fold_system_message(chat)
    assert chat == chat_of(["hi"], system="be kind")


def test_an_empty_system_message_folds_to_nothing() -> None:
    assert fold_system_message(chat_of(["hi"], system=" ")) == chat_of(["hi"])


def test_folding_needs_a_user_turn_after_the_system_message() -> None:
    with pytest.raises(TemplateError, match="no user turn follows"):
        fold_system_message([{"role": "system", "content": "be kind"}])


# --- template hash --------------------------------------------------------------------------------


def test_the_hash_is_the_same_in_every_process() -> None:
    assert template_hash(tokenizer_of("chatml")) == "db81d69c90421962"


def test_the_hash_tells_the_families_apart() -> None:
    assert len({template_hash(tokenizer_of(name)) for name in FAMILIES}) == len(FAMILIES)


def test_the_hash_changes_with_the_template() -> None:
    tokenizer = with_template("chatml", FAMILIES["chatml"].template + " ")
    assert template_hash(tokenizer) != template_hash(tokenizer_of("chatml"))


def test_the_hash_changes_with_a_special_token_but_not_with_padding() -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    tokenizer.pad_token = "<|endoftext|>"
    assert template_hash(tokenizer) == template_hash(tokenizer_of("chatml"))
    tokenizer.eos_token = "<|endoftext|>"
    assert template_hash(tokenizer) != template_hash(tokenizer_of("chatml"))


def test_the_hash_changes_when_a_bos_is_added_by_default() -> None:
    tokenizer = FAMILIES["zephyr"].tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    assert template_hash(tokenizer) != template_hash(tokenizer_of("zephyr"))


# --- loading --------------------------------------------------------------------------------------

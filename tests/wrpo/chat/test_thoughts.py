"""Where a thought ends and the answer begins, and which models think."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wrpo.chat.chat_families import FAMILIES
from wrpo.chat.thoughts import (
    THINK,
    Split,
    answer_start,
    begins_with_thought,
    split_any,
    split_thoughts,
    style_of,
    with_thought,
)
from wrpo.chat.tokenizer import _with_defaults

TAGS = [THINK, ("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>")]
plain = st.text(st.characters(exclude_characters="<[", exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("yes", Split("", "yes", True)),
        (" yes\n", Split("", " yes\n", True)),
        ("", Split("", "", True)),
        ("<think>\na\n</think>\n\nyes", Split("a", "yes", True)),
        ("\n<think>a</think>yes", Split("a", "yes", True)),
        ("a thought\n</think>\n\nyes", Split("a thought", "yes", True)),
        ("<think>\n\n</think>\n\nyes", Split("", "yes", True)),
        ("</think>yes", Split("", "yes", True)),
        ("<think>a, so \\boxed{3}", Split("a, so \\boxed{3}", "", False)),
        ("<think>", Split("", "", False)),
        ("<think>a</think>", Split("a", "", True)),
        ("<think>a</think><think>b</think>yes", Split("a\n\nb", "yes", True)),
        ("<think>a</think><think>b", Split("a\n\nb", "", False)),
        ("<think>a</think>yes, </think> ends it", Split("a", "yes, </think> ends it", True)),
        ("Write <think> and </think> so.", Split("", "Write <think> and </think> so.", True)),
        ("Write <think> only.", Split("", "Write <think> only.", True)),
    ],
)
def test_a_response_is_divided_where_its_first_block_ends(text: str, split: Split) -> None:
    assert split_thoughts(text) == split
    if split.closed and split.answer == text:
        assert answer_start(text) is None
    else:
        start = answer_start(text)
        assert start is not None and text[start:] == split.answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("plain", "plain"),
        ("", ""),
        ("<think>a</think>b", "b"),
        ("[THINK]a[/THINK] b", "b"),
        ("<thinking>a</thinking>\n\nb", "b"),
        ("[THINK]a", ""),
        ("Write [THINK] and [/THINK].", "Write [THINK] and [/THINK]."),
    ],
)
def test_replies_of_unknown_models_are_divided_by_the_tags_they_have(
    text: str, answer: str
) -> None:
    assert split_any(text).answer == answer


@pytest.mark.parametrize("tags", TAGS)
@given(thought=plain, answer=plain)
def test_what_is_put_together_comes_apart_again(tags, thought: str, answer: str) -> None:
    whole = with_thought(thought, answer, tags)
    assert split_thoughts(whole, tags) == Split(thought.strip(), answer.lstrip(), True)
    assert begins_with_thought(whole, tags)
    assert split_thoughts(answer, tags) == Split("", answer, True)
    assert not begins_with_thought(answer, tags)


@pytest.mark.parametrize(
    ("name", "opened"),
    [("qwen3", ""), ("qwen3_thinking", "<think>\n"), ("deepseek_r1", "<think>\n")],
)
def test_a_template_with_tags_is_one_of_a_model_that_thinks(name: str, opened: str) -> None:
    style = style_of(FAMILIES[name].tokenizer())
    assert style is not None and (style.tags, style.opened) == (THINK, opened)
    assert style_of(FAMILIES[name].tokenizer(), thinks=False) is None


@pytest.mark.parametrize("name", ["llama3", "chatml", "gemma2", "mistral", "phi3"])
def test_another_template_is_not_unless_the_recipe_says_so(name: str) -> None:
    tokenizer = FAMILIES[name].tokenizer()
    assert style_of(tokenizer) is None
    style = style_of(tokenizer, thinks=True)
    assert style is not None and style.opened == ""


def test_a_switch_of_the_template_turns_thinking_off_wherever_it_is_rendered() -> None:
    tokenizer = FAMILIES["qwen3"].tokenizer()
    template = tokenizer.chat_template + (
        "{%- if add_generation_prompt and enable_thinking is defined and not enable_thinking -%}"
        "{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}"
    )
    tokenizer.chat_template = template
    assert style_of(tokenizer) is not None
    tokenizer.chat_template = _with_defaults(template, {"enable_thinking": False})
    assert style_of(tokenizer) is None
    chat = [{"role": "user", "content": "hi"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert str(text).endswith("<think>\n\n</think>\n\n")
    on = tokenizer.apply_chat_template(
        chat, tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    assert not str(on).endswith("</think>\n\n")
    assert _with_defaults(tokenizer.chat_template, {"enable_thinking": False}) == (
        tokenizer.chat_template
    )


@pytest.mark.parametrize("value", [True, None, 3, 0.5, "it's", ["a", 1], {"k": [False]}])
def test_a_variable_of_a_template_has_the_value_that_the_recipe_gives(value: object) -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    tokenizer.chat_template = _with_defaults("\n{{ value | tojson }}", {"value": value})
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    import json

    assert str(text).startswith("\n") and json.loads(str(text)) == value

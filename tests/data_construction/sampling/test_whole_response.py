"""Responses are kept whole: thought and answer, whoever divided them before."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import AddedToken

from data_construction.sampling.whole_response import ResponseReader
from tests.wrpo.chat.chat_families import FAMILIES
from wrpo.engines import Completion
from wrpo.recipe.thinking import Thinking

WHOLE = "<think>\na thought\n</think>\n\nyes"


def completion(text: str, finish_reason: str = "stop", **fields: Any) -> Completion:
    return Completion((0, 0, 0), text, None, 10, finish_reason, None, **fields)


def read(found: Completion, family: str | None, **thinking: Any) -> tuple[str, str, str | None]:
    """(text, finish reason, answer), the answer None where the response has no thought."""
    tokenizer = FAMILIES[family].tokenizer() if family else None
    whole = ResponseReader(Thinking(**thinking), tokenizer)(found)
    assert (whole.thought_tokens is not None) == bool(whole.answer_start)
    answer = None if whole.answer_start is None else whole.text[whole.answer_start :]
    return whole.text, whole.finish_reason, answer


@pytest.mark.parametrize("family", ["qwen3_thinking", "deepseek_r1"])
def test_what_the_prompt_opened_is_put_back(family: str) -> None:
    assert read(completion("a thought\n</think>\n\nyes"), family) == (WHOLE, "stop", "yes")
    unclosed = "<think>\na thought"
    assert read(completion("a thought"), family) == (unclosed, "unclosed_thought", "")
    assert read(completion("a thought", "length"), family) == (unclosed, "length", "")


def test_a_model_that_opens_its_thoughts_itself_may_leave_them_out() -> None:
    assert read(completion(WHOLE), "qwen3") == (WHOLE, "stop", "yes")
    assert read(completion("yes"), "qwen3") == ("yes", "stop", None)
    assert read(completion("<think>a"), "qwen3") == ("<think>a", "unclosed_thought", "")


def test_the_text_of_a_model_that_does_not_think_is_its_answer() -> None:
    assert read(completion(WHOLE), "chatml") == (WHOLE, "stop", None)
    assert read(completion(WHOLE), "qwen3", thinks=False) == (WHOLE, "stop", None)
    assert read(completion(WHOLE), "chatml", thinks=True) == (WHOLE, "stop", "yes")
    assert read(completion(WHOLE), None) == (WHOLE, "stop", None)


def test_a_thought_that_a_server_gives_apart_is_put_before_the_answer() -> None:
    apart = completion("yes", thought="a thought", thought_tokens=7)
    assert read(apart, None) == (WHOLE, "stop", "yes")
    assert ResponseReader(Thinking(), None)(apart).thought_tokens == 7
    assert read(apart, None, thinks=False) == ("yes", "stop", None)
    cut = completion("", "length", thought="a thought")
    assert read(cut, None) == ("<think>\na thought", "length", "")
    own = completion("yes", thought="a thought")
    tags = ("[THINK]", "[/THINK]")
    assert read(own, None, tags=tags)[0] == "[THINK]\na thought\n[/THINK]\n\nyes"


def test_a_server_that_divides_nothing_has_what_the_recipe_says() -> None:
    assert read(completion(WHOLE), None, thinks=True) == (WHOLE, "stop", "yes")
    opened = completion("a thought\n</think>\n\nyes")
    assert read(opened, None, opened=True) == (WHOLE, "stop", "yes")
    assert read(completion("a thought"), None, opened=True)[1] == "unclosed_thought"


def test_tags_that_are_control_tokens_are_found_among_the_ids() -> None:
    tokenizer = FAMILIES["chatml"].tokenizer()
    tags = ("[THINK]", "[/THINK]")
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [AddedToken(tag, normalized=False) for tag in tags]}
    )
    ids = tokenizer.encode("[THINK]a line[/THINK]hello<|im_end|>")
    found = Completion((0, 0, 0), "a linehello", ids, len(ids), "stop", None)
    whole = ResponseReader(Thinking(thinks=True, tags=tags), tokenizer)(found)
    assert whole.text == "[THINK]a line[/THINK]hello"
    assert whole.answer_start is not None and whole.text[whole.answer_start :] == "hello"
